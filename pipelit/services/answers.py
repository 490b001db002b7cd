"""What executions ask and wait for, and the answers they get from people and from strangers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, or_, select

from pipelit.engine import links, waiting
from pipelit.engine.core.events import Event, StepReleased, StepResumed
from pipelit.engine.core.graph import Json, Plan
from pipelit.engine.core.state import State, StepId, StepStatus
from pipelit.engine.keys import TaskId, output_field
from pipelit.engine.narrator import Report
from pipelit.engine.runtime import engine
from pipelit.errors import Conflict, Invalid, NotFound, WrongState
from pipelit.extensions import db
from pipelit.models import ExecutionLog, PendingTask, PendingTaskApprover, UserProfile, Workflow, WorkflowExecution
from pipelit.nodes import registry
from pipelit.nodes.base import StepNode
from pipelit.nodes.flow.human_confirmation import HumanConfirmation, filled_in
from pipelit.services import edits, executions, idempotency, reports, rights
from pipelit.services.paging import Listing, Page, listing
from pipelit.services.rights import Access

BEFORE, AFTER = "before", "after"
"""Kinds of questions that a node's flags ask; the others are those of `waiting.Kind`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody says. The step is named by its node or by the question's id, or not at all if only one waits."""

    decision: str = "approve"
    node_id: str | None = None
    task_id: str | None = None
    data: Json = None


@dataclass(frozen=True, slots=True)
class Question:
    """A question for a person; `resume_url` is where a stranger may answer instead."""

    task: PendingTask
    resume_url: str | None


def waiting_for(
    by: UserProfile, page: Page, *, workflow_slug: str | None = None, execution_id: str | None = None
) -> Listing[Question]:
    """The questions that a user may answer, oldest first."""
    query = select(PendingTask).join(PendingTask.execution).join(WorkflowExecution.workflow)
    query = query.where(_may_answer(by))
    if workflow_slug is not None:
        query = query.where(Workflow.slug == workflow_slug)
    if execution_id is not None:
        query = query.where(PendingTask.execution_id == execution_id)
    found = listing(query.order_by(PendingTask.created_at, PendingTask.task_id), page)
    return Listing([Question(task, _resume_url(task)) for task in found.items], found.total)


def answer(execution_id: str, given: Answer, *, by: UserProfile) -> WorkflowExecution:
    """Answer what an execution waits for; the first answer counts.

    A confirmation goes on along the route of the decision. Of everything else `approve` lets the step go on, and
    `reject` cancels the execution. Raises `Invalid` with `data.…` paths for data that do not fit, `WrongState` where
    nothing waits.
    """
    row = db.session.get(WorkflowExecution, execution_id)
    if row is None or row.is_removed:
        raise NotFound(f"There is no execution '{execution_id[:36]}'.")
    with idempotency.preparing():
        engine().drain_journal()
    task = _chosen(_answerable(row, by), given)
    step = StepId.parse(task.step)
    if task.kind == waiting.Kind.APPROVAL:
        data = filled_in(task.form or (), given.data, is_approved=given.decision == "approve")
        _decide(execution_id, step, given.decision == "approve", data, by.username)
    elif given.decision == "reject":
        return executions.cancel(execution_id, by=None)
    else:
        _let_go_on(row, step, task.kind, given.data)
    engine().drain_journal()
    return executions.fresh(execution_id)


def resume_methods(token: str) -> Sequence[str]:
    """The HTTP methods that an address of ours takes. Raises `NotFound` if it is none."""
    row, step = _addressed(token)
    node = engine().plans.get(row.workflow_id, row.plan_hash).nodes[step.node]
    node_type = registry.get(node.type)
    return node_type.resume_methods(node.config) if isinstance(node_type, StepNode) else ()


def resume(token: str, data: Json) -> None:
    """Let the step of an address go on with what a stranger sent. Raises `Conflict` if it does not wait, or no more."""
    row, step = _addressed(token)
    if not row.is_live:
        raise WrongState("What waited here has ended.")
    if not _tell_resumed(row.execution_id, step, data):
        raise Conflict("Nothing waits at this address: not yet, or not any more.")


def _answerable(row: WorkflowExecution, by: UserProfile) -> Sequence[PendingTask]:
    """What an execution waits for and this user may answer. Raises `NotFound` or `Forbidden` if they have no say."""
    db.session.rollback()
    mine = select(PendingTask).where(PendingTask.execution_id == row.execution_id)
    if rights.access_of(row.workflow, by).includes(Access.EDITOR):
        return db.session.scalars(mine).all()
    found = db.session.scalars(mine.where(_is_named(by))).all()
    if not found and _was_named(row.execution_id, by):
        raise WrongState("What this execution asked you has been answered, or is not asked any more.")
    if not found:
        executions.get(row.execution_id, by=by, needed=Access.EDITOR)
    return found


def _may_answer(by: UserProfile) -> ColumnElement[bool]:
    return or_(Workflow.may_be_run_by(by), _is_named(by))


def _is_named(by: UserProfile) -> ColumnElement[bool]:
    named = select(PendingTaskApprover.task_id).where(PendingTaskApprover.username == by.username)
    return PendingTask.task_id.in_(named)


def _was_named(execution_id: str, by: UserProfile) -> bool:
    """Whether a question that is over now named this user: its step's row has what was asked."""
    asked = (ExecutionLog.execution_id == execution_id, ExecutionLog.component_type == HumanConfirmation.type)
    inputs = db.session.scalars(select(ExecutionLog.input).where(*asked, ExecutionLog.input.is_not(None)))
    return any(by.username in (json.loads(given).get("approvers") or ()) for given in inputs if given)


def _chosen(tasks: Sequence[PendingTask], given: Answer) -> PendingTask:
    fitting = [
        task for task in tasks if given.node_id in (None, task.node_id) and given.task_id in (None, task.task_id)
    ]
    if not fitting:
        where = f"The node {given.node_id} of this execution" if given.node_id else "This execution"
        raise WrongState(f"{where} does not wait for an answer.")
    if len({task.node_id for task in fitting}) > 1:
        names = ", ".join(sorted({task.node_id for task in fitting}))
        raise Invalid("Several steps wait: say which one.", {"node_id": [f"Choose one of: {names}."]})
    return min(fitting, key=lambda task: (task.created_at, task.task_id))


def _decide(execution_id: str, step: StepId, is_approved: bool, data: Mapping[str, Json], by: str) -> None:
    kept = engine().recovery.kept_report(execution_id, step)
    _, report = waiting.answered(TaskId(execution_id, step, 0), kept, is_approved=is_approved, data=data, by=by)
    route = waiting.APPROVED if is_approved else waiting.REJECTED

    def event(state: State) -> Event | None:
        known = state.steps.get(step)
        return StepResumed(step, known.attempt, route) if known and known.status is StepStatus.WAITING else None

    if not engine().coordinator.tell(execution_id, event, report):
        raise _too_late(step)


def _let_go_on(row: WorkflowExecution, step: StepId, kind: str, data: Json) -> None:
    plan = engine().plans.get(row.workflow_id, row.plan_hash)
    if kind == waiting.Kind.EXTERNAL:
        is_told = _tell_resumed(row.execution_id, step, data)
    elif kind == BEFORE:
        edited = edits.of_settings(plan.nodes[step.node], data)
        report = reports.with_outputs(Report(), row.execution_id, edited) if edited else Report()
        is_told = engine().coordinator.tell(row.execution_id, StepReleased(step, is_after=False), report)
    else:
        report = _with_other_outputs(row.execution_id, plan, step, data)
        is_told = engine().coordinator.tell(row.execution_id, StepReleased(step, is_after=True), report)
    if not is_told:
        raise _too_late(step)


def _with_other_outputs(execution_id: str, plan: Plan, step: StepId, data: Json) -> Report:
    """What a person put in the place of a step's outputs, port by port."""
    if data is None:
        return Report()
    field = output_field(step)
    stored = engine().store.values(execution_id, [field])[field]
    outputs = edits.of_outputs(plan.nodes[step.node], stored or "{}", data)
    return reports.with_outputs(Report(), execution_id, outputs)


def _tell_resumed(execution_id: str, step: StepId, data: Json) -> bool:
    """Whether the step waited for the outside, and now goes on with what it was sent, if that is anything."""
    kept = engine().recovery.kept_report(execution_id, step)
    if waiting.kind_of(kept.until) is not waiting.Kind.EXTERNAL:
        return False
    report = kept if data is None else reports.with_outputs(kept, execution_id, {"output": data})

    def event(state: State) -> Event | None:
        known = state.steps.get(step)
        return StepResumed(step, known.attempt) if known and known.status is StepStatus.WAITING else None

    return engine().coordinator.tell(execution_id, event, replace(report, until=None))


def _too_late(step: StepId) -> WrongState:
    return WrongState(f"The step {step} of this execution does not wait any more.")


def _addressed(token: str) -> tuple[WorkflowExecution, StepId]:
    """The execution and the step that an address of ours is about."""
    named = links.read(engine().settings, token)
    row = db.session.get(WorkflowExecution, named[0]) if named else None
    if named is None or row is None or row.is_removed:
        raise NotFound("There is nothing at this address.")
    return row, named[1]


def _resume_url(task: PendingTask) -> str | None:
    if task.kind != waiting.Kind.EXTERNAL:
        return None
    return links.url(engine().settings, task.execution_id, StepId.parse(task.step))
