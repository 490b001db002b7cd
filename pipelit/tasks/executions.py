"""Executions that go on after a wait."""

from pipelit.engine.dispatch import WAKE_STEP
from pipelit.engine.keys import TaskId
from pipelit.engine.runtime import engine
from pipelit.extensions import celery
from pipelit.tasks.base import in_app


@celery.task(name=WAKE_STEP)
@in_app
def wake(task: str) -> None:
    """Resume a step that waited for a time; `task` is the id of the attempt."""
    engine().recovery.wake(TaskId.parse(task))
