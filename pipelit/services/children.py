"""Executions that a step of another one started: begun once, and their end taken to the step that waits for it."""

from collections.abc import Callable, Mapping

import structlog
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from pipelit.engine import blobs, values, waiting
from pipelit.engine.core.codec import dump_json
from pipelit.engine.core.events import Event, Failure, StepFailed, StepResumed
from pipelit.engine.core.graph import Json
from pipelit.engine.core.state import State, StepId, StepStatus
from pipelit.engine.keys import TaskId
from pipelit.engine.narrator import Report
from pipelit.engine.runtime import engine
from pipelit.errors import (
    ChildFailed,
    ChildRefused,
    DepthExceeded,
    Invalid,
    NotFound,
    OutputTooLarge,
    StepError,
    WrongState,
)
from pipelit.extensions import db
from pipelit.models import UserProfile, Workflow, WorkflowExecution
from pipelit.models.execution import LIVE
from pipelit.nodes.base import TriggerEvent
from pipelit.services import ancestry, executions, plans, reports
from pipelit.services.ancestry import Origin

log = structlog.get_logger(__name__)

KIND = "workflow"
"""Events of this kind start a workflow that another one calls."""

Request = Mapping[str, Json]
"""What a step asks for that calls a workflow."""

MOST_NAMED = 20
"""How many workflows of a chain of calls are named."""

ENDINGS = {"failed": "failed", "timed_out": "took too long", "cancelled": "was cancelled"}


def begin(task: TaskId, request: Request) -> WorkflowExecution | None:
    """Accept the execution that was asked for. None if the one that asked has ended. Raises `StepError`."""
    parent = _row(task.execution_id)
    if parent is None:
        return None
    limit = engine().settings.call_depth
    if parent.depth >= limit:
        raise DepthExceeded(
            f"Workflows called one another {limit} times in a row, which is the limit (PIPELIT_CALL_DEPTH): "
            f"{_chain(parent)} → {request['workflow']}. They have to come to an end by themselves."
        )
    target = _target(parent.workflow, request["workflow"])
    trigger = plans.first_trigger(target, KIND)
    if trigger is None:
        raise ChildRefused(
            f"The workflow '{target.slug}' cannot be called: give it the trigger 'Called by a workflow'."
        )
    step = task.step if request["is_awaited"] else None
    execution_id = ancestry.child_id(task.execution_id, task.step)
    try:
        executions.begin(
            target,
            trigger,
            TriggerEvent(KIND, {"payload": request["payload"], "text": request["text"]}),
            by=db.session.get(UserProfile, parent.user_profile_id) if parent.user_profile_id else None,
            execution_id=execution_id,
            origin=Origin(parent.execution_id, task.step.node, step, parent.depth + 1),
        )
    except (Invalid, NotFound) as error:
        raise ChildRefused(f"The workflow '{target.slug}' cannot run: {error.detail}") from error
    except IntegrityError:
        log.info("child_begun_by_another", execution_id=execution_id)
    except WrongState:
        return None
    return _row(execution_id)


Begin = Callable[[TaskId, Request], WorkflowExecution | None]


def attend(task: TaskId, begin: Begin = begin) -> None:
    """Look after the execution that a step waits for: begin it, or take its end to the step. Harmless when repeated.

    If nobody waits for it any more, it is stopped.
    """
    child = _row(ancestry.child_id(task.execution_id, task.step))
    request = _request(task)
    if request is None:
        _stop_unwanted(task, child)
        return
    try:
        child = child or begin(task, request)
    except StepError as error:
        failure = Failure(error.code, error.detail[:4000])
        _tell(task.execution_id, task.step, lambda attempt: StepFailed(task.step, attempt, failure), {})
        return
    if child is not None and not request["is_awaited"]:
        outputs: dict[str, Json] = {"output": None, "execution_id": child.execution_id}
        _tell(task.execution_id, task.step, lambda attempt: StepResumed(task.step, attempt), outputs)
    elif child is not None:
        deliver(child)
    if _request(task) is None:
        # Whoever gave the step up meanwhile may have looked for the child before it was there.
        _stop_unwanted(task, child)


def deliver(child: WorkflowExecution) -> None:
    """Take the end of an execution to the step that waits for it, if it has ended and one does."""
    if child.is_live or child.parent_step is None or child.parent_execution_id is None:
        return
    step = StepId.parse(child.parent_step)
    if child.status != "completed":
        failure = _failure(child)
        _tell(child.parent_execution_id, step, lambda attempt: StepFailed(step, attempt, failure), {})
        return
    try:
        outputs = _came_out(child)
        _tell(child.parent_execution_id, step, lambda attempt: StepResumed(step, attempt), outputs)
    except StepError as error:
        # What came out is larger than the step that called may leave.
        refused = Failure(error.code, error.detail)
        _tell(child.parent_execution_id, step, lambda attempt: StepFailed(step, attempt, refused), {})


def _came_out(child: WorkflowExecution) -> Mapping[str, Json]:
    """What a step leaves that waited for an execution, whole: nobody else may open what is the child's own.

    Raises `OutputTooLarge` if that is more than any output may be.
    """
    outputs = {
        "output": blobs.read(dump_json(child.final_output), child.execution_id),
        "execution_id": child.execution_id,
    }
    size, limit = len(values.encode_outputs(outputs)), engine().settings.output_bytes
    if size > limit:
        raise OutputTooLarge(
            f"What the workflow '{child.workflow.slug}' left has {size} bytes of JSON, the limit is {limit} "
            "(PIPELIT_OUTPUT_BYTES)."
        )
    return outputs


def stop_awaited(parent: WorkflowExecution) -> bool:
    """Stop the executions that an ended one still waited for. False if there were any: somebody should look again."""
    mine = select(WorkflowExecution.execution_id).where(
        WorkflowExecution.parent_execution_id == parent.execution_id,
        WorkflowExecution.parent_step.is_not(None),
        WorkflowExecution.status.in_(LIVE),
    )
    found = db.session.scalars(mine).all()
    for execution_id in found:
        executions.stop(execution_id)
    return not found


def _stop_unwanted(task: TaskId, child: WorkflowExecution | None) -> None:
    """Stop an execution that a step was to wait for, if the step is over."""
    if child is not None and child.parent_step is not None and child.is_live and _is_over(task):
        executions.stop(child.execution_id)


def _request(task: TaskId) -> Request | None:
    """What the step asked for; None if it does not wait, or not for an execution."""
    loaded = engine().store.load(task.execution_id)
    known = loaded[0].state.steps.get(task.step) if loaded else None
    if known is None or known.status is not StepStatus.WAITING:
        return None
    until = engine().recovery.kept_report(task.execution_id, task.step).until
    return until if waiting.kind_of(until) is waiting.Kind.CHILD else None


def _is_over(task: TaskId) -> bool:
    """Whether the step, or its whole execution, is known to have gone on without the child.

    That the step does not wait is no sign of it: after a loss it may be run again, find the child, and wait again.
    """
    parent = _row(task.execution_id)
    if parent is None or not parent.is_live:
        return parent is not None
    loaded = engine().store.load(task.execution_id)
    if loaded is None:
        return False
    known = loaded[0].state.steps.get(task.step)
    return _is_folded(loaded[0].state, task.step) if known is None else known.is_settled


def _is_folded(state: State, step: StepId) -> bool:
    """Whether an iteration around the step is over, so that the state has forgotten the step."""
    for depth, (loop, index) in enumerate(step.scope):
        owner = state.steps.get(StepId(loop, step.scope[:depth]))
        if owner is None or owner.is_settled or owner.progress is None:
            return owner is not None and owner.is_settled
        if index not in owner.progress.open:
            return index < owner.progress.following
    return False


def _row(execution_id: str) -> WorkflowExecution | None:
    db.session.rollback()
    return db.session.get(WorkflowExecution, execution_id, populate_existing=True)


def _target(caller: Workflow, wanted: Json) -> Workflow:
    is_wanted = Workflow.id == wanted if isinstance(wanted, int) else Workflow.slug == wanted
    target = db.session.scalar(Workflow.present().where(is_wanted))
    if target is None or not ancestry.may_call(caller, target):
        named = f"with the id {wanted}" if isinstance(wanted, int) else f"'{str(wanted)[:200]}'"
        raise ChildRefused(f"There is no workflow {named} that the owner of '{caller.slug}' may run.")
    return target


def _tell(execution_id: str, step: StepId, event: "reports.EventOf", outputs: Mapping[str, Json]) -> None:
    """Let a waiting step go on, whatever the number of its attempt; its outputs may be large."""

    def chosen(state: State) -> Event | None:
        known = state.steps.get(step)
        return event(known.attempt) if known is not None and known.status is StepStatus.WAITING else None

    kept: Report = engine().recovery.kept_report(execution_id, step)
    report = reports.with_outputs(kept, execution_id, outputs) if outputs else kept
    engine().coordinator.tell(execution_id, chosen, report)


def _failure(child: WorkflowExecution) -> Failure:
    """What the end of an execution is to the step that waited; that calls go too deep is said once, as it is."""
    if child.error_code == DepthExceeded.code and child.error_message:
        return Failure(DepthExceeded.code, child.error_message)
    return Failure(ChildFailed.code, _sentence(child))


def _chain(row: WorkflowExecution) -> str:
    """The workflows that called one another to get to an execution, the first one first; of many, the ends."""
    slugs = [row.workflow.slug]
    while row.depth and row.parent_execution_id and (parent := _row(row.parent_execution_id)) is not None:
        row = parent
        slugs.insert(0, row.workflow.slug)
    if len(slugs) > MOST_NAMED:
        slugs = [*slugs[: MOST_NAMED // 2], "…", *slugs[-MOST_NAMED // 2 :]]
    return " → ".join(slugs)


def _sentence(child: WorkflowExecution) -> str:
    """How an execution ended, for the one that waited for it."""
    where = f" at {child.error_node_id}" if child.error_node_id else ""
    code = f" ({child.error_code})" if child.error_code else ""
    why = f"{where}: {child.error_message}{code}" if child.error_message else "."
    return f"The workflow '{child.workflow.slug}' {ENDINGS[child.status]}{why}"[:4000]
