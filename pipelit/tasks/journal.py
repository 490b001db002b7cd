"""The journal's way to SQL."""

import time

from pipelit.engine.dispatch import DRAIN_JOURNAL
from pipelit.engine.runtime import engine
from pipelit.extensions import celery
from pipelit.tasks.base import in_app

LINGER_SECONDS = 0.25
"""How long the writer waits for more, when nobody waits for it: fewer, larger transactions."""

URGENT_SECONDS = 0.01
"""The same when an execution has ended: several that end together are written together."""


@celery.task(name=DRAIN_JOURNAL)
@in_app
def drain(is_urgent: bool) -> None:
    """Write what the journal holds."""
    time.sleep(URGENT_SECONDS if is_urgent else LINGER_SECONDS)
    engine().redis.delete("pipelit:journal:now" if is_urgent else "pipelit:journal:soon")
    engine().drain_journal()
