"""The journal's way to SQL."""

import time

from pipelit.engine.dispatch import DRAIN_JOURNAL
from pipelit.engine.keys import writer_flag
from pipelit.engine.runtime import engine
from pipelit.extensions import celery
from pipelit.tasks.base import in_app

LINGER_SECONDS = 0.25
"""How long the writer waits for more, when nobody waits for it: fewer, larger transactions."""

URGENT_SECONDS = 0.01
"""The same when an execution has ended: several that end together are written together."""

BUSY_SECONDS = 0.1
"""The same while executions keep ending: the writer stays, which is cheaper than to be called for each of them."""

STAY_SECONDS = 0.8
"""How long a writer stays. Its flag lasts a second; after that it would be called although it is there."""


@celery.task(name=DRAIN_JOURNAL)
@in_app
def drain(is_urgent: bool) -> None:
    """Write what the journal holds."""
    time.sleep(URGENT_SECONDS if is_urgent else LINGER_SECONDS)
    until = time.monotonic() + (STAY_SECONDS if is_urgent else 0)
    engine().journal.attend(writer_flag(is_urgent=is_urgent), lambda: _pause(until))


def _pause(until: float) -> bool:
    if time.monotonic() >= until:
        return False
    time.sleep(BUSY_SECONDS)
    return True
