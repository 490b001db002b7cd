"""Use cases around workflows that have no route of their own, or several people in them."""

import threading
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from sqlalchemy import func, select

from pipelit.api.schemas.graph import parse
from pipelit.engine import compiler
from pipelit.errors import Invalid, NotFound
from pipelit.extensions import db
from pipelit.models import UserProfile, Workflow, WorkflowNode
from pipelit.services import executions, graph, names, nodes, removal, samples, workflows
from pipelit.services.drafts import NodeDraft
from tests.support.workflows import admin, build


@pytest.fixture
def inside(app: Flask) -> Iterator[None]:
    """The application's context."""
    with app.app_context():
        yield
        db.session.remove()


@pytest.fixture
def ada(inside: None) -> UserProfile:
    """An administrator."""
    return admin()


def test_an_exported_workflow_can_be_imported_beside_the_original(ada: UserProfile) -> None:
    build({"start": ("trigger_manual", {}), "join": ("merge", {})}, "start -> join", by=ada, name="Shop", tags=["a"])
    document = graph.export("shop")

    imported = workflows.import_(parse(document), by=ada)

    assert (imported.slug, imported.name, imported.tags, imported.owner_id) == ("shop-2", "Shop", ["a"], ada.id)
    copied = graph.export("shop-2")
    assert (copied["nodes"], copied["edges"]) == (document["nodes"], document["edges"])


def test_a_document_without_a_name_gets_one(ada: UserProfile) -> None:
    assert workflows.import_(parse({"nodes": [], "edges": []}), by=ada).slug == "imported-workflow"


def test_a_document_with_a_mistake_imports_nothing(ada: UserProfile) -> None:
    document = {"workflow": {"name": "Shop"}, "nodes": [{"component_type": "agnt"}], "edges": []}

    with pytest.raises(Invalid) as refused:
        workflows.import_(parse(document), by=ada)

    assert "nodes.0.component_type" in refused.value.errors
    assert db.session.scalar(select(func.count()).select_from(Workflow)) == 0
    with pytest.raises(Invalid) as refused:
        parse({"nodes": [], "edges": [{}], "extra": 1})
    assert refused.value.errors.keys() == {"edges.0.source_node_id", "edges.0.target_node_id", "extra"}


def test_what_is_not_there_is_not_exported(ada: UserProfile) -> None:
    with pytest.raises(NotFound):
        graph.export("nothing")


def test_the_sample_is_made_once_and_never_comes_back(inside: None) -> None:
    made = samples.seed()
    assert made is not None
    ada = admin()
    assert workflows.get(made.slug, by=ada).workflow.is_public
    assert samples.seed() is None

    removal.delete(made.slug, by=ada)

    assert samples.seed() is None
    assert db.session.scalar(select(func.count()).select_from(Workflow)) == 1


def test_the_sample_can_run(inside: None) -> None:
    made = samples.seed()
    assert made is not None
    drawn = graph.loaded(made)

    assert workflows.problems(made.slug, by=admin()) == []
    plan = compiler.compile_plan(made.id, drawn.nodes, drawn.edges, "hook")
    assert plan.leaves == ("answer",)


def test_a_forced_deletion_cancels_what_runs(ada: UserProfile) -> None:
    build({"start": ("trigger_manual", {}), "join": ("merge", {})}, "start -> join", by=ada, name="Shop")
    execution = executions.start("shop", by=ada)

    removal.delete("shop", by=ada, is_forced=True)

    assert executions.get(execution.execution_id, by=None).status == "cancelled"
    with pytest.raises(NotFound):
        workflows.get("shop", by=ada)


def test_nodes_made_at_the_same_time_get_different_names(app: Flask, ada: UserProfile) -> None:
    workflows.create({"name": "Shop"}, by=ada)

    _at_once(app, 6, lambda: nodes.create("shop", NodeDraft("merge"), by=ada))

    found = db.session.scalars(select(WorkflowNode.node_id)).all()
    assert sorted(found) == [f"merge_{number}" for number in range(1, 7)]
    assert db.session.scalar(select(Workflow.revision)) == 7


def test_workflows_made_at_the_same_time_get_different_slugs(app: Flask, ada: UserProfile) -> None:
    _at_once(app, 6, lambda: workflows.create({"name": "Shop"}, by=ada))

    assert sorted(db.session.scalars(select(Workflow.slug))) == ["shop", *(f"shop-{number}" for number in range(2, 7))]


def test_there_is_one_default_however_many_want_to_be(app: Flask, ada: UserProfile) -> None:
    _at_once(app, 4, lambda: workflows.create({"name": "Shop", "is_default": True}, by=ada))

    assert db.session.scalar(select(func.count()).where(Workflow.is_default)) == 1


def test_slugs_remind_of_names() -> None:
    assert [names.slug_from(name) for name in ("Ünïcode Näme!", "  ", "日本", "a" * 200, "A--B__c")] == [
        "unicode-name",
        "workflow",
        "workflow",
        "a" * 80,
        "a-b-c",
    ]


def test_names_of_nodes_can_stand_in_expressions() -> None:
    made = [names.node_id_for(kind, set()) for kind in ("switch", "my.plugin-type", "2fast", "x" * 200)]

    assert made == ["switch_1", "my_plugin_type_1", "_2fast_1", f"{'x' * 90}_1"]
    assert all(names.NODE_ID.fullmatch(name) for name in made)


def _at_once(app: Flask, count: int, act: Callable[[], object]) -> None:
    """Do something from several threads at the same moment, each in a context of its own."""
    barrier = threading.Barrier(count)
    failures: list[BaseException] = []

    def run() -> None:
        with app.app_context():
            barrier.wait()
            try:
                act()
            except BaseException as error:
                failures.append(error)
            finally:
                db.session.remove()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    db.session.rollback()
    assert failures == []
