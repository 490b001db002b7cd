"""What is promised of every worker, whatever its tasks do: each setting behind it has a story here that it carries."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

import celeryconfig
from pipelit.config import Settings
from pipelit.launcher import embedded
from pipelit.launcher.environment import prepare_home
from tests.support.application import KEYS
from tests.support.product import wait_until

LONG_VISIBILITY = 600
Start = Callable[..., "subprocess.Popen[bytes]"]


class Broker:
    """A server of the story's own, and what can be seen of its tasks from outside."""

    def __init__(self, home: Path, visibility: int) -> None:
        self.environ = {
            **KEYS,
            "PIPELIT_HOME": str(home),
            "PIPELIT_VISIBILITY_TIMEOUT": str(visibility),
            "PIPELIT_LEASE_SECONDS": "1",
        }
        self.settings = Settings.load(self.environ)
        prepare_home(self.settings)
        self.redis = Redis.from_url(self.settings.redis_url, decode_responses=True)
        self._sender = Celery("sender")
        self._sender.config_from_object(celeryconfig)
        self._sender.conf.update(celeryconfig.from_settings(self.settings))
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._server = subprocess.Popen(embedded.command(self.settings), stdout=subprocess.DEVNULL)
        assert embedded.wait_until_answering(self.settings, seconds=60)

    def stop(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def close(self) -> None:
        self.redis.close()
        self._sender.close()
        self.stop()

    def nap(self, seconds: float, *, note: str = "note", queue: str = "default") -> None:
        self._sender.send_task("tests.nap", [seconds, note, self.settings.redis_url], queue=queue)

    def die_once(self) -> None:
        self._sender.send_task("tests.die_once", ["note", self.settings.redis_url])

    def stop_listening(self) -> None:
        """Make every worker deaf: connected as before, but taking nothing from the queue of steps."""
        cancel = self._sender.control.cancel_consumer
        wait_until(lambda: bool(cancel("default", reply=True, timeout=3)), "a worker has obeyed")

    def notes(self, word: str, *, note: str = "note") -> list[str]:
        """The processes in which naps of a note began or ended."""
        return [line.split()[1] for line in self.redis.lrange(note, 0, -1) if line.startswith(word)]


@pytest.fixture
def visibility() -> int:
    """Seconds until a message that nobody acknowledged is abandoned."""
    return 3


@pytest.fixture
def broker(visibility: int) -> Iterator[Broker]:
    with tempfile.TemporaryDirectory(prefix="pl-") as folder:
        broker = Broker(Path(folder), visibility)
        broker.start()
        yield broker
        broker.close()


@pytest.fixture
def start(broker: Broker) -> Iterator[Start]:
    """Start a worker of a lane; all of them are killed in the end."""
    started: list[subprocess.Popen[bytes]] = []

    def run(lane: str, *, patience: float = 30, **also: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "tests.support.naps", lane, str(patience)]
        output = (broker.settings.home / f"{lane}.{len(started)}.log").open("wb")
        environ = {**os.environ, **broker.environ, "REMAP_SIGTERM": "SIGQUIT", **also}
        with output:
            started.append(subprocess.Popen(command, env=environ, stdout=output, stderr=output))
        return started[-1]

    yield run
    for worker in started:
        worker.kill()
        worker.wait()


@pytest.mark.parametrize("visibility", [LONG_VISIBILITY])
def test_a_task_whose_process_was_killed_is_given_to_another_process(broker: Broker, start: Start):
    start("steps")

    broker.die_once()

    # Not when the message counts as abandoned, but when the pool looks after its processes: every 5 s.
    wait_until(lambda: len(broker.notes("began")) == 2, "it has begun again")
    assert len(set(broker.notes("began"))) == 2


def test_a_task_of_a_killed_worker_is_taken_over_soon_after_the_visibility_timeout(broker: Broker, start: Start):
    workers = [start("system"), start("system")]
    for number in range(2):
        log = broker.settings.home / f"system.{number}.log"
        wait_until(lambda log=log: " ready." in log.read_text(), "both are up", or_else=log.read_text)
    broker.nap(60, queue="maintenance")
    wait_until(lambda: len(broker.notes("began")) == 1, "it has begun")

    (lost,) = (worker for worker in workers if str(worker.pid) in broker.notes("began"))
    lost.kill()

    wait_until(lambda: len(broker.notes("began")) == 2, "the other worker has taken it")


@pytest.mark.parametrize("visibility", [LONG_VISIBILITY])
def test_a_worker_told_to_stop_puts_its_task_back_and_another_takes_it(broker: Broker, start: Start):
    stopped = start("steps")
    broker.nap(60)
    wait_until(lambda: len(broker.notes("began")) == 1, "it has begun")

    asked_at = time.monotonic()
    stopped.send_signal(signal.SIGTERM)
    stopped.wait(timeout=60)

    assert time.monotonic() - asked_at < celeryconfig.worker_soft_shutdown_timeout + 20
    assert broker.redis.llen("default") == 1
    start("steps")
    wait_until(lambda: len(broker.notes("began")) == 2, "it has begun elsewhere")


@pytest.mark.parametrize("visibility", [LONG_VISIBILITY])
def test_a_step_that_is_nearly_done_may_end_before_its_worker_stops(broker: Broker, start: Start):
    stopped = start("steps")
    broker.nap(2)
    wait_until(lambda: len(broker.notes("began")) == 1, "it has begun")

    stopped.send_signal(signal.SIGTERM)
    stopped.wait(timeout=60)

    assert len(broker.notes("ended")) == 1
    assert broker.redis.llen("default") == 0


def test_workers_wait_for_a_broker_that_is_away_and_come_back_with_it(broker: Broker, start: Start):
    broker.stop()
    early = start("steps")
    log = broker.settings.home / "steps.0.log"
    wait_until(lambda: "Cannot connect to" in log.read_text(), "it has tried", or_else=log.read_text)
    broker.start()
    broker.nap(0)
    wait_until(lambda: len(broker.notes("ended")) == 1, "a task after a start without broker")

    broker.stop()
    time.sleep(2)
    broker.start()
    # Of its own name: the first task is delivered again when the server went away before the acknowledgement came.
    broker.nap(0, note="later")

    wait_until(lambda: len(broker.notes("ended", note="later")) == 1, "a task after an outage", or_else=log.read_text)
    assert early.poll() is None


@pytest.mark.parametrize("visibility", [LONG_VISIBILITY])
def test_a_worker_takes_no_more_than_it_runs_and_leaves_the_rest_to_others(broker: Broker, start: Start):
    start("steps")
    for _ in range(2):
        broker.nap(60, note="long")
    wait_until(lambda: len(broker.notes("began", note="long")) == 2, "both processes are busy")

    for _ in range(5):
        broker.nap(0, note="short")
    time.sleep(1)
    assert broker.redis.llen("default") == 5
    start("steps")

    wait_until(lambda: len(broker.notes("ended", note="short")) == 5, "another worker has run the short ones")


@pytest.mark.parametrize("visibility", [LONG_VISIBILITY])
def test_a_flood_of_steps_leaves_the_rest_of_the_system_alone(broker: Broker, start: Start):
    start("steps")
    start("system")
    for _ in range(200):
        broker.nap(1, note="flood")
    wait_until(lambda: bool(broker.notes("began", note="flood")), "the flood has begun")

    for queue in ("triggers", "schedules", "maintenance", "llm"):
        broker.nap(0, note=f"of {queue}", queue=queue)
        wait_until(lambda queue=queue: bool(broker.notes("ended", note=f"of {queue}")), f"a task of {queue}")

    assert broker.redis.llen("default") > 0


def test_a_killed_worker_leaves_nothing_among_the_temporary_files(broker: Broker, start: Start, tmp_path: Path):
    killed = start("steps", TMPDIR=str(tmp_path))
    broker.nap(0)
    wait_until(lambda: len(broker.notes("ended")) == 1, "the worker is up")

    killed.kill()
    killed.wait()

    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_has_gone_deaf_ends_itself(broker: Broker, start: Start):
    deaf = start("steps", patience=2)
    broker.nap(0, note="warm")
    wait_until(lambda: len(broker.notes("ended", note="warm")) == 1, "the worker is up")

    broker.stop_listening()
    broker.nap(0)

    assert deaf.wait(timeout=60) == -signal.SIGKILL
    start("steps")
    wait_until(lambda: len(broker.notes("ended")) == 1, "its successor listens")


@pytest.mark.parametrize("visibility", [LONG_VISIBILITY])
def test_an_idle_worker_is_not_taken_for_a_deaf_one(broker: Broker, start: Start):
    idle = start("steps", patience=5)
    broker.nap(0, note="warm")
    wait_until(lambda: len(broker.notes("ended", note="warm")) == 1, "the worker is up")

    broker.nap(8)
    broker.nap(8)
    broker.nap(0)
    wait_until(lambda: len(broker.notes("ended")) == 3, "all have ended")

    assert idle.poll() is None
