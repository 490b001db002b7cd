"""Steps of executions."""

from pipelit.engine.core.state import StepId
from pipelit.engine.dispatch import RUN_STEP
from pipelit.engine.keys import TaskId
from pipelit.engine.runtime import engine
from pipelit.engine.store import Meta
from pipelit.extensions import celery
from pipelit.tasks.base import in_app


@celery.task(name=RUN_STEP, Request="pipelit.tasks.requests:StepRequest")
@in_app
def run_step(
    execution_id: str, step: str, attempt: int, due_ms: float, meta: tuple[str, int, str, float, str, str, str]
) -> None:
    """Run one attempt of a step. `meta` is `store.Meta` as a list, `due_ms` when the attempt could have begun."""
    engine().worker.run(TaskId(execution_id, StepId.parse(step), attempt), due_ms=due_ms, meta=Meta(*meta))
