"""The whole product as its users start it: when it is ready, what it weighs, how fast a webhook is answered."""

import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cpu import spent
from bench.memory import Weight, family, total, weigh
from bench.plain import plain_flask
from bench.ports import free_port
from bench.stage import ROOT

CALLS = 300
FIRST_CALLS = 30
LOAD_SECONDS = 8.0
CALLERS = 8
PATIENCE = 60.0


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one caller alone, and requests per second of `CALLERS` at once."""

    p50_ms: float
    p99_ms: float
    per_second: float


@dataclass(frozen=True)
class Figures:
    """`weights` are those of the idle product, which has answered requests and run workflows before.

    `webhook` answers with the output of its one node, `accepted` at once. `cpu_ms` is the processor time of one request
    of each sort, executing it included, by kind of process.
    """

    first_start_s: float
    second_start_s: float
    weights: Sequence[Weight]
    webhook: Latency
    accepted: Latency
    flask: Latency
    cpu_ms: Mapping[str, Mapping[str, float]]

    @property
    def rss_mb(self) -> float:
        """Shared pages counted in every process."""
        return total(self.weights)[0]

    @property
    def pss_mb(self) -> float:
        """Shared pages counted once."""
        return total(self.weights)[1]

    def as_json(self) -> dict[str, Any]:
        return {
            "first_start_s": self.first_start_s,
            "second_start_s": self.second_start_s,
            "idle_rss_mb": self.rss_mb,
            "idle_pss_mb": self.pss_mb,
            "idle": [weight.as_json() for weight in self.weights],
            "webhook": vars(self.webhook),
            "accepted": vars(self.accepted),
            "cpu_ms": self.cpu_ms,
            "plain_flask": vars(self.flask),
        }


def measure() -> Figures:
    """Start it twice, weigh it, and call a webhook whose workflow has one node, beside a plain Flask view."""
    with tempfile.TemporaryDirectory(prefix="pl-bench-") as home:
        with running(Path(home)) as (_, _, first):
            pass
        with running(Path(home)) as (port, process, second):
            key = _api(port, "POST", "/auth/setup/", {"username": "bench", "password": "correct horse battery"})["key"]
            replying, accepting = _webhook(port, key, "last"), _webhook(port, key, "now")
            weights = _idle(process.pid, port, replying, accepting)
            webhook, accepted = latency(port, replying), latency(port, accepting, 202)
            time.sleep(3)
            cpu = {
                "reply": _cpu(process.pid, port, replying, 200),
                "acceptance": _cpu(process.pid, port, accepting, 202),
            }
        with plain_flask() as flask_port:
            flask = latency(flask_port, "/")
    return Figures(first, second, weights, webhook, accepted, flask, cpu)


def _idle(pid: int, port: int, replying: str, accepting: str) -> Sequence[Weight]:
    """What each process weighs a while after some executions: what is loaded with the first use is there by then."""
    for call in (_caller(port, replying, 200), _caller(port, accepting, 202)):
        for _ in range(FIRST_CALLS):
            call()
    time.sleep(3)
    return weigh(pid)


def _cpu(pid: int, port: int, path: str, status: int) -> dict[str, float]:
    """Milliseconds of each kind of process for one of `CALLS` requests, what they started included."""
    call = _caller(port, path, status)
    with spent(family(pid)) as used:
        for _ in range(CALLS):
            call()
        time.sleep(2)
    return {kind: used[kind] / CALLS for kind in ("web", "redis", "steps", "system")}


@contextmanager
def running(home: Path) -> Iterator[tuple[int, "subprocess.Popen[bytes]", float]]:
    """`pipelit up` in a home of its own; yields its port, its process, and the seconds until it was ready."""
    port = free_port()
    environment = {**os.environ, "PIPELIT_HOME": str(home), "PIPELIT_PORT": str(port), "PIPELIT_LOG_LEVEL": "warning"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelit", "up"], env=environment, cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        while not _is_ready(port):
            if process.poll() is not None or time.perf_counter() - began > PATIENCE:
                raise RuntimeError("the product did not start")
            time.sleep(0.02)
        yield port, process, time.perf_counter() - began
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def latency(port: int, path: str, status: int = 200) -> Latency:
    """Call one address: first alone, then from several threads for some seconds."""
    call = _caller(port, path, status)
    for _ in range(20):
        call()
    alone = sorted(call() for _ in range(CALLS))
    return Latency(statistics.median(alone), alone[int(len(alone) * 0.99)], _per_second(port, path, status))


def _per_second(port: int, path: str, status: int) -> float:
    counts: list[int] = []
    until = time.perf_counter() + LOAD_SECONDS

    def work() -> None:
        call, count = _caller(port, path, status), 0
        while time.perf_counter() < until:
            call()
            count += 1
        counts.append(count)

    callers = [threading.Thread(target=work) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return sum(counts) / LOAD_SECONDS


def _caller(port: int, path: str, status: int) -> Callable[[], float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body, headers = json.dumps({"name": "Ada"}), {"Content-Type": "application/json"}

    def call() -> float:
        began = time.perf_counter()
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        answer = response.read()
        if response.status != status:
            raise RuntimeError(f"{response.status}: {answer!r}")
        return (time.perf_counter() - began) * 1000

    return call


def _webhook(port: int, key: str, respond: str) -> str:
    """Make a workflow of webhook → template; returns the webhook's path."""
    slug = _api(port, "POST", "/workflows/", {"name": f"Bench {respond}"}, key)["slug"]
    graph = {
        "nodes": [
            {"node_id": "hook", "component_type": "trigger_webhook", "config": {"path": respond, "respond": respond}},
            {"node_id": "greet", "component_type": "template", "config": {"template": "Hello {{ hook.body.name }}"}},
        ],
        "edges": [{"source_node_id": "hook", "target_node_id": "greet"}],
    }
    _api(port, "PUT", f"/workflows/{slug}/graph/", graph, key)
    return f"/api/v1/webhooks/{respond}"


def _api(port: int, method: str, path: str, body: dict[str, Any], key: str | None = None) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    connection.request(method, f"/api/v1{path}", json.dumps(body), headers)
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    if response.status >= 300:
        raise RuntimeError(f"{response.status}: {answer}")
    return answer


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api/v1/health/ready/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
