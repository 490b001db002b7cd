"""A node is stopped where it is, once, and never behind its end."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from pipelit.engine.brake import Brake
from pipelit.engine.core.graph import NodeId
from pipelit.engine.core.state import StepId
from pipelit.engine.keys import TaskId
from pipelit.engine.processes import stat
from pipelit.errors import StepCancelled, StepTimeout

LONG = 60.0


@dataclass
class Attempt:
    """Something to be stopped."""

    task: TaskId = field(default_factory=lambda: TaskId("e", StepId(NodeId("a")), 1))
    is_cancelled: bool = False


@contextmanager
def cancelling(brake: Brake, attempt: Attempt, begun: threading.Event) -> Iterator[None]:
    """Stop the attempt, once it has begun, until it is heard: as whoever keeps the leases does."""
    heard = threading.Event()

    def cancel() -> None:
        begun.wait(LONG)
        attempt.is_cancelled = True
        while not heard.wait(0.05):
            brake.stop(attempt)

    other = threading.Thread(target=cancel)
    other.start()
    try:
        yield
    finally:
        heard.set()
        other.join()


def test_what_ends_in_time_is_left_alone() -> None:
    assert Brake().run(lambda: 42, Attempt(), limit=LONG) == 42
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_limit_is_raised_where_the_node_is() -> None:
    with pytest.raises(StepTimeout, match=r"0\.1 s"):
        Brake().run(lambda: time.sleep(LONG), Attempt(), limit=0.1)

    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_cancel_is_raised_where_the_node_is() -> None:
    brake, attempt, begun = Brake(), Attempt(), threading.Event()

    def node() -> None:
        begun.set()
        time.sleep(LONG)

    with cancelling(brake, attempt, begun), pytest.raises(StepCancelled):
        brake.run(node, attempt, limit=LONG)


def test_a_signal_for_a_step_that_is_over_stops_nobody() -> None:
    brake, over = Brake(), Attempt(is_cancelled=True)
    brake.run(lambda: None, Attempt(), limit=LONG)

    def node() -> str:
        brake.stop(over)
        signal.raise_signal(signal.SIGALRM)
        return "done"

    assert brake.run(node, Attempt(), limit=LONG) == "done"


def test_a_node_is_told_once() -> None:
    told = []

    def node() -> str:
        for _ in range(2):
            try:
                time.sleep(0.6)
            except StepTimeout as error:
                told.append(error)
        return "done"

    assert Brake().run(node, Attempt(), limit=0.1) == "done"
    assert len(told) == 1


def test_what_a_stopped_node_has_started_ends_with_it_and_nothing_else_does() -> None:
    started: list[subprocess.Popen[bytes]] = []
    brake, attempt, begun = Brake(), Attempt(), threading.Event()

    def node() -> None:
        started.append(subprocess.Popen(["/bin/sleep", "60"]))
        begun.set()
        time.sleep(LONG)

    with subprocess.Popen(["/bin/sleep", "60"]) as older:
        # Start times are told in hundredths of a second.
        time.sleep(0.05)
        with cancelling(brake, attempt, begun), pytest.raises(StepCancelled):
            brake.run(node, attempt, limit=LONG)

        assert not stat(started[0].pid)
        assert older.poll() is None
        older.kill()
    started[0].wait()


def test_outside_the_main_thread_a_node_is_not_stopped() -> None:
    answers: list[str] = []
    brake = Brake()

    def work() -> None:
        answers.append(brake.run(lambda: "done", Attempt(), limit=0.01))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert answers == ["done"]
