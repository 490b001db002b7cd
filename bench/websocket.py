"""Live events through the real web server: what idle sockets cost, how late events are, how fast it all ends."""

import http.client
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

from redis import Redis

from bench import sockets
from bench.memory import total, weigh
from bench.ports import free_port
from bench.stage import ROOT, Stage, stage
from pipelit import clock
from pipelit.engine import broadcast
from pipelit.extensions import db
from pipelit.models.user import Role
from pipelit.services import tokens, users, workflows

PATIENCE = 30.0


@dataclass(frozen=True)
class Figures:
    """Latencies are in ms. `rest_*`: a list of workflows over one kept connection."""

    clients: int
    events_per_second: float
    rest_p50: float
    rest_p99: float
    rest_idle_p50: float
    rest_idle_p99: float
    mb_per_1000: float
    fanout_p50: float
    fanout_p99: float
    delivered: float
    rest_busy_p50: float
    rest_busy_p99: float
    closed_with_1012: float
    gone_after_s: float

    def rows(self) -> list[tuple[str, str, str]]:
        """What is measured, how much, and what it should be."""
        fanout = f"{self.events_per_second:.0f} events/s to {self.clients} sockets"
        return [
            ("REST without sockets, p50 / p99", f"{self.rest_p50:.1f} / {self.rest_p99:.1f} ms", ""),
            (f"REST beside {self.clients} idle sockets", f"{self.rest_idle_p50:.1f} / {self.rest_idle_p99:.1f} ms", ""),
            ("1,000 sockets weigh", f"{self.mb_per_1000:.0f} MB", ""),
            (f"{fanout}, p50", f"{self.fanout_p50:.0f} ms", ""),
            (f"{fanout}, p99", f"{self.fanout_p99:.0f} ms", "<= 150 ms"),
            ("events that arrived", f"{self.delivered:.1%}", "100.0%"),
            ("REST meanwhile, p50 / p99", f"{self.rest_busy_p50:.1f} / {self.rest_busy_p99:.1f} ms", ""),
            ("sockets closed with 1012 on SIGTERM", f"{self.closed_with_1012:.1%}", "100.0%"),
            ("server gone after SIGTERM", f"{self.gone_after_s:.2f} s", "< 2 s"),
        ]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure() -> Figures:
    """Everything, on a stage of its own."""
    with stage() as prepared:
        return run(prepared)


def run(prepared: Stage, *, clients: int = 1000, events_per_second: float = 100, seconds: float = 10) -> Figures:
    """Measure one server with so many clients on one channel."""
    key, channel = _audience()
    with serving(prepared) as (port, server), audience(port, key) as pipe:
        rest = _rest(port, key, 200)
        before, _ = total(weigh(server.pid))
        _ask(pipe, "connect", clients)
        idle = _rest(port, key, 200)
        after, _ = total(weigh(server.pid))
        _ask(pipe, "subscribe", channel)
        busy: list[float] = []
        asking = threading.Thread(target=lambda: busy.extend(_rest(port, key, 100, pause=seconds / 120)))
        pipe.send(("listen", seconds + 2))
        asking.start()
        sent = _publish(prepared, channel, events_per_second, seconds)
        latencies, heard = pipe.recv()
        asking.join()
        pipe.send(("drain",))
        gone = _stop(server)
        codes, _ = pipe.recv()
    return Figures(
        clients=clients,
        events_per_second=events_per_second,
        rest_p50=_quantile(rest, 50),
        rest_p99=_quantile(rest, 99),
        rest_idle_p50=_quantile(idle, 50),
        rest_idle_p99=_quantile(idle, 99),
        mb_per_1000=(after - before) / clients * 1000,
        fanout_p50=_quantile(latencies, 50),
        fanout_p99=_quantile(latencies, 99),
        delivered=heard / (sent * clients),
        rest_busy_p50=_quantile(busy, 50),
        rest_busy_p99=_quantile(busy, 99),
        closed_with_1012=codes.count(1012) / clients,
        gone_after_s=gone,
    )


@contextmanager
def serving(prepared: Stage) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """The web server as the product starts it."""
    port = free_port()
    environment = {**os.environ, **prepared.environment, "PIPELIT_PORT": str(port)}
    server = subprocess.Popen([sys.executable, "-m", "pipelit", "server"], env=environment, cwd=ROOT)
    try:
        until = time.monotonic() + PATIENCE
        while not _answers(port):
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the server did not start")
            time.sleep(0.05)
        yield port, server
    finally:
        server.terminate()
        server.wait(PATIENCE)


@contextmanager
def audience(port: int, key: str) -> Iterator[Connection]:
    """A process full of clients, and the pipe that drives it."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=sockets.main, args=(theirs, port, key))
    process.start()
    try:
        yield ours
    finally:
        ours.send(("end",))
        process.join(PATIENCE)


def _audience() -> tuple[str, str]:
    """A key, and the channel of a workflow that its owner may watch."""
    user = users.create("audience", "correct horse battery", Role.ADMIN)
    key = tokens.create(user.id, "bench", clock.now()).key
    slug = workflows.create({"name": "Live"}, by=user).slug
    db.session.remove()
    return key, broadcast.workflow_channel(slug)


def _publish(prepared: Stage, channel: str, per_second: float, seconds: float) -> int:
    """Publish at an even pace; how many events it were."""
    redis: Redis = prepared.app.extensions["pipelit.redis"]
    began = time.monotonic()
    total = int(per_second * seconds)
    for number in range(total):
        time.sleep(max(0.0, began + number / per_second - time.monotonic()))
        broadcast.publish(redis, channel, "node_status", {"text": "x" * 150, "ns": time.monotonic_ns()}, clock.now())
    return total


def _rest(port: int, key: str, count: int, pause: float = 0.0) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    took: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        connection.request("GET", "/api/v1/workflows/", headers={"Authorization": f"Bearer {key}"})
        response = connection.getresponse()
        response.read()
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"the list of workflows answered {response.status}")
        took.append((time.perf_counter() - began) * 1000)
        time.sleep(pause)
    connection.close()
    return took


def _stop(server: "subprocess.Popen[bytes]") -> float:
    """Seconds from the signal to the end."""
    began = time.monotonic()
    server.send_signal(signal.SIGTERM)
    server.wait(PATIENCE)
    return time.monotonic() - began


def _answers(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        connection.request("GET", "/api/v1/health/")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False


def _ask(pipe: Connection, *order: object) -> None:
    pipe.send(order)
    pipe.recv()


def _quantile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]
