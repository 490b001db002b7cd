"""What the process that keeps the pool learns of a step whose process has died."""

import os
import re
from typing import Any

import structlog
from billiard.exceptions import WorkerLostError
from celery.worker.request import Request
from redis.exceptions import RedisError

from pipelit.engine.lease import process_of
from pipelit.engine.runtime import EXTENSION, Engine
from pipelit.extensions import celery
from pipelit.tasks.base import CONF_KEY

log = structlog.get_logger(__name__)

OF_MEMORY = {"signal 9 (SIGKILL)": "signal 9 (SIGKILL), as the system does it when memory runs out"}
"""Nobody else than the kernel and an operator sends this one."""


class StepRequest(Request):  # type: ignore[misc]  # Celery has no types.
    """The message of a step in the hands of a worker."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """Before the message goes back to its queue, leave word of how the process died."""
        # The pool wraps what it raises, to keep the traceback with it.
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, WorkerLostError):
            _note_death(self.worker_pid, how(error))
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)


def how(error: WorkerLostError) -> str:
    """How a process died, out of what the pool says of it: `signal 11 (SIGSEGV)`, `exitcode 3`."""
    found = re.search(r"prematurely: (.+?)(?: Job:|$)", str(error))
    said = found.group(1) if found else ""
    return OF_MEMORY.get(said, said)


def _note_death(pid: int, reason: str) -> None:
    engine: Engine = celery.conf[CONF_KEY].extensions[EXTENSION]
    try:
        engine.store.note_death(process_of(pid, keeper=os.getpid()), reason)
    except RedisError:
        log.warning("broker_unreachable")
