"""`python -m tests.support.dying_worker LANE`: a worker that dies once it has said that a time limit was ignored."""

import copy
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import celeryconfig
from pipelit import telemetry
from pipelit.engine.board import Board
from pipelit.engine.coordinator import Coordinator
from pipelit.engine.overseer import Overseer
from pipelit.engine.worker import Worker
from pipelit.launcher import workers
from pipelit.launcher.environment import load_settings


class LastWords(Coordinator):
    """Commits one event, and is killed before it can say so."""

    def tell(self, *args: Any, **kwargs: Any) -> bool:
        assert super().tell(*args, **kwargs), "what it says changes something"
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("nobody survives that")


class DyingOverseer(Overseer):
    """Dies between its report and its kill."""

    def __init__(self, worker: Worker, board: Board, within: Callable[[], AbstractContextManager[object]]) -> None:
        dying = copy.copy(worker)
        dying.coordinator = LastWords(worker.coordinator.tools, worker.coordinator.plans)
        super().__init__(dying, board, within)


if __name__ == "__main__":
    settings = load_settings()
    telemetry.configure(settings)
    sys.exit(workers.run(settings, celeryconfig.lane(sys.argv[1]), overseer=DyingOverseer))
