"""Executions that go on after a wait, that other executions wait for, and that have ended."""

from pipelit.engine.dispatch import ATTEND_CHILD, BEGIN_RETRY, FOLLOW_UP, START_NEXT, WAKE_STEP
from pipelit.engine.keys import TaskId
from pipelit.engine.runtime import engine
from pipelit.extensions import celery
from pipelit.services import aftermath, children, retries
from pipelit.tasks.base import in_app


@celery.task(name=WAKE_STEP)
@in_app
def wake(task: str) -> None:
    """Resume a step that waited for a time; `task` is the id of the attempt."""
    engine().recovery.wake(TaskId.parse(task))


@celery.task(name=ATTEND_CHILD)
@in_app
def attend_child(task: str) -> None:
    """Look after the execution that a step waits for; `task` is the id of the step's attempt."""
    children.attend(TaskId.parse(task))


@celery.task(name=FOLLOW_UP)
@in_app
def follow_up(execution_id: str) -> None:
    """Do what follows from the end of an execution."""
    aftermath.follow_up(execution_id)


@celery.task(name=START_NEXT)
@in_app
def start_next(group: str) -> None:
    """Begin what waits in a concurrency group, as far as there is room."""
    engine().turns.start_next(group)


@celery.task(name=BEGIN_RETRY)
@in_app
def begin_retry(execution_id: str) -> None:
    """Copy what a large retry reuses, and begin it."""
    retries.carry_out(execution_id)
