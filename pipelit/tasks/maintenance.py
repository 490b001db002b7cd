"""What is looked after once a second, and once a minute."""

from collections.abc import Callable
from datetime import timedelta

import structlog

from pipelit import clock
from pipelit.engine import leftovers
from pipelit.engine.runtime import engine
from pipelit.engine.tick import TICK
from pipelit.extensions import celery, settings
from pipelit.services import aftermath, retention, retries
from pipelit.tasks.base import in_app

FOLLOW_UP_GRACE = timedelta(seconds=5)
"""How long the message that follows from an execution's end may take before somebody else does what it says."""

RETRY_GRACE = timedelta(seconds=30)
"""How long the message that carries out a large retry may take before it is sent again."""

log = structlog.get_logger(__name__)


@celery.task(name=TICK)
@in_app
def tick(number: int) -> None:
    """Send the next tick, then look after what is due with this one."""
    if not engine().tick.advance(number):
        return
    for every, job in JOBS:
        if number % every == 0:
            _attempt(job)


def _attempt(job: Callable[[], object]) -> None:
    try:
        job()
    except Exception:  # One job in trouble must not keep the others from their turn; the next tick tries it again.
        log.exception("maintenance_failed", job=job.__name__)


def _sweep_deadlines() -> None:
    engine().recovery.sweep_deadlines(clock.now_ms())


def _take_over() -> None:
    engine().recovery.take_over(clock.now_ms())


def _drain_journal() -> None:
    engine().drain_journal()


def _restore_lost() -> None:
    recovery = engine().recovery
    recovery.losses.notice(clock.now_ms())
    if recovery.losses.is_searching(clock.now_ms()):
        engine().drain_journal()
        recovery.losses.search()


def _search_anew() -> None:
    engine().recovery.losses.search_anew()


def _start_pending() -> None:
    engine().recovery.start_pending()


def _sweep_groups() -> None:
    engine().turns.sweep(clock.now())


def _follow_up() -> None:
    aftermath.sweep(clock.now() - FOLLOW_UP_GRACE)


def _call_for_retries() -> None:
    retries.sweep(clock.now() - RETRY_GRACE)


def _remove_old() -> None:
    retention.sweep(retention.Policy.of(settings()), clock.now())


def _forget_leftovers() -> None:
    leftovers.forget_leftovers(engine().redis, engine().store)


EVERY_SECOND = tuple((1, job) for job in (_take_over, _sweep_deadlines, _drain_journal, _restore_lost))
EVERY_MINUTE = ((60, _remove_old), (60, _forget_leftovers))
EVERY_FIVE = tuple((5, job) for job in (_start_pending, _sweep_groups, _follow_up))
JOBS = (*EVERY_SECOND, *EVERY_FIVE, (30, _call_for_retries), *EVERY_MINUTE, (600, _search_anew))
"""How often, in ticks of a second, and what."""
