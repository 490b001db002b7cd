"""What a workflow cannot become, and what happens when its surroundings fail."""

from collections.abc import Iterator

import pytest
from flask import Flask
from redis import Redis
from sqlalchemy import insert

from pipelit.errors import Invalid
from pipelit.extensions import db, transaction
from pipelit.models import UserProfile, Workflow, WorkflowEdge, WorkflowNode
from pipelit.services import edges, graph, node_config, nodes, workflows
from pipelit.services.drafts import MOST_EDGES, MOST_NODES, EdgeDraft, GraphDraft, NodeDraft
from tests.support.workflows import admin, build

SHOP = {"hook": ("trigger_webhook", {"path": "orders"}), "sort": ("switch", {}), "join": ("merge", {})}


@pytest.fixture
def ada(app: Flask) -> Iterator[UserProfile]:
    """An administrator, inside the application's context."""
    with app.app_context():
        yield admin()
        db.session.remove()


@pytest.fixture
def shop(ada: UserProfile) -> Workflow:
    """A workflow of webhook, switch and merge."""
    return build(SHOP, "hook -> sort", by=ada, name="Shop")


def test_a_workflow_has_an_end(shop: Workflow, ada: UserProfile) -> None:
    draft = GraphDraft([NodeDraft("merge", f"n{number}") for number in range(MOST_NODES)])
    graph.replace("shop", draft, by=ada)
    # Written as rows, because drawing so many would be most of what the test does.
    values = {"workflow_id": shop.id, "source_node_id": "n0", "target_node_id": "n1", "edge_type": "direct"}
    with transaction() as session:
        session.execute(
            insert(WorkflowEdge), [{**values, "edge_label": "", "source_port": str(at)} for at in range(MOST_EDGES)]
        )

    with pytest.raises(Invalid, match="at most 2000 nodes"):
        nodes.create("shop", NodeDraft("merge"), by=ada)
    with pytest.raises(Invalid, match="at most 10000 edges"):
        edges.create("shop", EdgeDraft("n0", "n1"), by=ada)


def test_secrets_have_an_end(shop: Workflow, ada: UserProfile) -> None:
    config = {"path": "other", "auth": "secret", "secret": "€" * 500}
    assert nodes.create("shop", NodeDraft("trigger_webhook", "second", config=config), by=ada).config.secrets

    with pytest.raises(Invalid, match="too long"):
        node_config.check(_Careless(), {"secret": "x" * node_config.MOST_SECRET_BYTES})


def test_a_document_does_not_refer_to_code_that_is_not_there(shop: Workflow, ada: UserProfile) -> None:
    with pytest.raises(Invalid) as refused:
        graph.replace("shop", GraphDraft([NodeDraft("merge", code_block_id=3)]), by=ada)

    assert refused.value.errors.keys() == {"nodes.0.code_block_id"}


def test_a_new_name_is_put_into_the_mapping_of_an_edge(shop: Workflow, ada: UserProfile) -> None:
    mapping = {"default": "join", "other": "hook"}
    drawn = edges.create("shop", EdgeDraft("sort", "join", "conditional", condition_mapping=mapping), by=ada)

    nodes.update("shop", "join", {"node_id": "end"}, by=ada)

    renamed = edges.get("shop", drawn.id, by=ada)
    assert (renamed.target_node_id, renamed.condition_mapping) == ("end", {"default": "end", "other": "hook"})


def test_a_configuration_of_an_older_version_is_shown_as_the_present_one(shop: Workflow, ada: UserProfile) -> None:
    with transaction() as session:
        node = session.query(WorkflowNode).filter_by(node_id="hook").one()
        node.config.version = 0

    changed = nodes.update("shop", "hook", {"config": {"priority": 2}}, by=ada)

    assert (changed.config.values, changed.config.version) == ({"path": "orders", "priority": 2}, 1)


def test_a_slug_has_its_form_whoever_asks(ada: UserProfile) -> None:
    with pytest.raises(Invalid) as refused:
        workflows.create({"name": "Shop", "slug": "No Slug"}, by=ada)

    assert refused.value.errors.keys() == {"slug"}


def test_a_copy_does_not_refer_to_what_its_author_cannot_see(shop: Workflow, ada: UserProfile) -> None:
    hidden = workflows.create({"name": "Hidden"}, by=ada)
    nodes.create("shop", NodeDraft("merge", "sub", subworkflow_id=hidden.id), by=ada)
    workflows.update("shop", {"is_public": True}, by=ada)
    with transaction() as session:
        session.add(mallory := UserProfile(username="mallory"))

    mine = workflows.duplicate("shop", {}, by=ada)
    theirs = workflows.duplicate("shop", {}, by=mallory)

    found = [nodes.get(copy.slug, "sub", by=ada).subworkflow_id for copy in (mine, theirs)]
    assert found == [hidden.id, None]


def test_a_node_whose_type_is_gone_is_shown_and_can_be_moved_and_deleted(shop: Workflow, ada: UserProfile) -> None:
    with transaction() as session:
        node = session.query(WorkflowNode).filter_by(node_id="sort").one()
        node.component_type = "gone"
        session.execute(
            db.text("UPDATE component_configs SET component_type = 'gone' WHERE id = :id"), {"id": node.config.id}
        )
    db.session.expunge_all()

    assert {problem.code for problem in workflows.problems("shop", by=ada)} == {"unknown_type"}
    assert nodes.update("shop", "sort", {"position_x": 9}, by=ada).position_x == 9
    with pytest.raises(Invalid, match="no node type called 'gone'"):
        nodes.update("shop", "sort", {"config": {}}, by=ada)
    assert edges.create("shop", EdgeDraft("sort", "join"), by=ada).id
    nodes.delete("shop", "sort", by=ada)


def test_a_change_is_kept_when_nobody_can_be_told(app: Flask, shop: Workflow, ada: UserProfile) -> None:
    with Redis(port=1, retry=None, decode_responses=True) as unreachable:
        known, app.extensions["pipelit.redis"] = app.extensions["pipelit.redis"], unreachable
        made = nodes.create("shop", NodeDraft("merge", "late"), by=ada)
        app.extensions["pipelit.redis"] = known

    assert nodes.get("shop", "late", by=ada).id == made.id


class _Careless:
    """A node type that does not limit its secret."""

    secrets = ("secret",)

    def check(self, values: object) -> object:
        return values
