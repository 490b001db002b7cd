"""Workflows that call one another, for stories about what becomes of them."""

from typing import Any

from pipelit.engine.runtime import engine
from pipelit.extensions import db
from pipelit.models import UserProfile, Workflow, WorkflowExecution
from pipelit.services import executions
from tests.engine.stories import started, template
from tests.support.workflows import Nodes, build

CALLED = {"called": ("trigger_workflow", {})}
CALL = {"call": ("workflow", {"workflow_slug": "callee"})}
END = {"end": template("{{ call.output }}")}
EDGES = "start -> call; call -> end"


def callee(nodes: Nodes, edges: str, slug: str = "callee", **about: Any) -> Workflow:
    """A workflow that others may call."""
    return build({**CALLED, **nodes}, edges, slug=slug, **about)


def doubling() -> Workflow:
    return callee({"twice": template("{{ called.payload.n * 2 }}")}, "called -> twice")


def sleeping(slug: str = "callee") -> Workflow:
    return callee({"pause": ("wait", {"seconds": 3600})}, "called -> pause", slug)


def calling(*, by: UserProfile | None = None, **config: Any) -> WorkflowExecution:
    """An execution that calls `callee` with 21."""
    call = {"call": ("workflow", {"workflow_slug": "callee", "payload": {"n": 21}, **config})}
    return started({**call, **END}, EDGES, by=by)


def children_of(row: WorkflowExecution) -> list[WorkflowExecution]:
    engine().drain_journal()
    db.session.rollback()
    return list(executions.children(row.execution_id))
