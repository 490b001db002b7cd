"""Loops over 10,000 items: how fast against bare Celery tasks, as fast at the end as at first, and how large."""

import os
import statistics
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis
from sqlalchemy import select

from bench import bare
from bench.stage import Stage
from pipelit.engine.core import codec
from pipelit.engine.keys import ExecutionKeys
from pipelit.extensions import db
from pipelit.models import WorkflowExecution
from pipelit.models.execution import ExecutionLog
from pipelit.nodes import registry
from pipelit.nodes.base import TriggerEvent
from pipelit.services import executions, workflows
from pipelit.services.drafts import EdgeDraft, GraphDraft, NodeDraft

ITERATIONS = 10_000
EDGE = 1_000
"""The first and the last so many iterations are compared."""

BARE_TASKS = 2_000
PATIENCE = 600.0


@dataclass(frozen=True)
class Run:
    """One loop; processor times are the step workers' for one iteration, which others on the machine lengthen less.

    `state_kb` is the size of its live state without the events, early, half way and late in the run.
    """

    concurrency: int
    per_second: float
    bare_per_second: float
    first_per_second: float
    last_per_second: float
    first_cpu_ms: float
    last_cpu_ms: float
    state_kb: tuple[int, int, int]
    events_kb: int
    worker_mb: tuple[float, float]

    @property
    def ratio(self) -> float:
        return self.per_second / self.bare_per_second

    @property
    def last_to_first(self) -> float:
        return self.last_per_second / self.first_per_second

    def rows(self) -> list[tuple[str, str, str]]:
        """For the table."""
        name = f"loop of {ITERATIONS}, {self.concurrency} at once"
        sizes = " / ".join(map(str, self.state_kb))
        before, after = self.worker_mb
        return [
            (name, f"{self.per_second:.0f} /s", ""),
            (f"{name}, against bare tasks", f"{self.ratio:.2f}", ">= 0.5"),
            (f"{name}, last {EDGE} against first", f"{self.last_to_first:.2f}", ">= 0.9"),
            (f"{name}, the same in processor time", f"{self.first_cpu_ms / self.last_cpu_ms:.2f}", ">= 0.9"),
            (f"{name}, live state at 10, 50, 95 %", f"{sizes} KB", "flat"),
            (f"{name}, its newest events", f"{self.events_kb} KB", "bounded"),
            (f"{name}, largest worker before and after", f"{before:.0f} / {after:.0f} MB", "flat"),
        ]

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "last_to_first": self.last_to_first}


def measure(stage: Stage) -> list[Run]:
    """Run a loop one after the other and ten at once, with bare tasks before and after each."""
    with (
        stage.process("pipelit", "worker", "steps") as steps,
        stage.process("pipelit", "worker", "system"),
        stage.process("bench.bare"),
    ):
        bare.configure_from(stage.settings)
        loops = _Loops(stage, steps.pid)
        loops.run(1, iterations=200)
        loops.bare(1)
        return [loops.measured(concurrency) for concurrency in (1, 10)]


@dataclass
class _Sizes:
    """What was seen while a loop ran."""

    state: list[int] = field(default_factory=list)
    cpu: list[tuple[int, float]] = field(default_factory=list)
    events: int = 0

    def at(self, share: float) -> int:
        return round(self.state[min(len(self.state) - 1, int(share * len(self.state)))] / 1024)

    def cpu_ms(self, start: int, stop: int) -> float:
        """Processor time of one iteration between two of them."""
        inside = [seen for seen in self.cpu if start <= seen[0] <= stop]
        (first, before), (last, after) = inside[0], inside[-1]
        return (after - before) * 1000 / (last - first)


class _Loops:
    """Workflows of a loop around one template node."""

    def __init__(self, stage: Stage, worker_pid: int) -> None:
        self.redis: Any = Redis.from_url(stage.settings.redis_url, decode_responses=True, socket_timeout=None)
        self.worker_pid = worker_pid

    def measured(self, concurrency: int) -> Run:
        """The loop, and what bare tasks did on the same machine just before and just after."""
        before, weight = self.bare(concurrency), self._weight()
        row, sizes = self.run(concurrency, iterations=ITERATIONS)
        after = self.bare(concurrency)
        times = [at.timestamp() for at in db.session.scalars(_ends(row))]
        return Run(
            concurrency=concurrency,
            per_second=(len(times) - 1) / (times[-1] - times[0]),
            bare_per_second=statistics.mean((before, after)),
            first_per_second=EDGE / (times[EDGE] - times[0]),
            last_per_second=EDGE / (times[-1] - times[-1 - EDGE]),
            first_cpu_ms=sizes.cpu_ms(0, EDGE),
            last_cpu_ms=sizes.cpu_ms(ITERATIONS - EDGE, ITERATIONS),
            state_kb=(sizes.at(0.1), sizes.at(0.5), sizes.at(0.95)),
            events_kb=round(sizes.events / 1024),
            worker_mb=(weight, self._weight()),
        )

    def bare(self, chains: int) -> float:
        """Bare tasks per second, in as many chains as there are iterations at once."""
        length = BARE_TASKS // chains
        began = time.perf_counter()
        for _ in range(chains):
            name = uuid.uuid4().hex
            bare.hop.apply_async([name, length], task_id=f"{name}-{length}")
        for _ in range(chains):
            if self.redis.blpop(bare.DONE, 120) is None:
                raise TimeoutError("a bare chain did not end")
        return BARE_TASKS / (time.perf_counter() - began)

    def run(self, concurrency: int, *, iterations: int) -> tuple[WorkflowExecution, _Sizes]:
        """Run a loop to its end, and look at its live state meanwhile."""
        config = registry.get("trigger_manual").configure({})
        event = TriggerEvent("manual", {"payload": {}, "text": "x"})
        row = executions.begin(_workflow(concurrency, iterations), "start", event, config=config)
        keys, sizes = ExecutionKeys.of(row.execution_id), _Sizes()
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self.redis.hget(keys.meta, "status") == "running":
                used = [self.redis.memory_usage(key, samples=0) or 0 for key in (keys.meta, keys.steps, keys.data)]
                sizes.state.append(sum(used))
                if loop := self.redis.hget(keys.steps, "each"):
                    progress = codec.decode_step(loop).progress
                    sizes.cpu.append((progress.following if progress else 0, self._processor_time()))
                sizes.events = max(sizes.events, self.redis.memory_usage(keys.events, samples=0) or 0)
            elif _has_ended(row.execution_id):
                return row, sizes
            time.sleep(0.25)
        raise TimeoutError("a loop did not end")

    def _processor_time(self) -> float:
        """Seconds that the processes have used that run steps."""
        return sum(_used(pid) for pid in (str(self.worker_pid), *self._children()))

    def _children(self) -> list[str]:
        return Path(f"/proc/{self.worker_pid}/task/{self.worker_pid}/children").read_text().split()

    def _weight(self) -> float:
        """Resident megabytes of the largest process that runs steps."""
        return max(_resident(pid) for pid in self._children())


def _resident(pid: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _used(pid: str) -> float:
    """User and system time of a process, fields 14 and 15 of proc(5)'s stat."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _has_ended(execution_id: str) -> bool:
    db.session.rollback()
    row = db.session.get(WorkflowExecution, execution_id)
    return row is not None and row.completed_at is not None


def _ends(row: WorkflowExecution) -> Any:
    """When each iteration's step ended, in the order of ending."""
    mine = (ExecutionLog.execution_id == row.execution_id, ExecutionLog.node_id == "body")
    return select(ExecutionLog.timestamp).where(*mine).order_by(ExecutionLog.timestamp)


def _workflow(concurrency: int, iterations: int) -> Any:
    each = {"items": f"{{{{ range({iterations}) | list }}}}", "concurrency": concurrency}
    drafts = [
        NodeDraft("trigger_manual", "start"),
        NodeDraft("loop", "each", config=each),
        NodeDraft("template", "body", config={"template": "{{ loop.item }}"}),
    ]
    edges = [
        EdgeDraft("start", "each"),
        EdgeDraft("each", "body", edge_label="loop_body"),
        EdgeDraft("body", "each", edge_label="loop_return"),
    ]
    return workflows.import_(GraphDraft(drafts, edges, {"name": f"Loop, {concurrency} at once"}), by=None)
