"""What is looked after once a second."""

from pipelit import clock
from pipelit.engine.runtime import engine
from pipelit.engine.tick import TICK
from pipelit.extensions import celery
from pipelit.tasks.base import in_app

START_EVERY = 5


@celery.task(name=TICK)
@in_app
def tick(number: int) -> None:
    """Send the next tick, then look after deadlines, the journal, and starts that did not happen."""
    if not engine().tick.advance(number):
        return
    engine().recovery.sweep_deadlines(clock.now_ms())
    engine().drain_journal()
    if number % START_EVERY == 0:
        engine().recovery.start_pending()
