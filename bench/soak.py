"""`python -m bench.soak`: many executions, and what the processes hold meanwhile.

Memory, open files, connections and keys are looked at after each tenth of the run, when nothing is under way. What
grows from one tenth to the next would, in the end, stop an installation.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from redis import Redis
from sqlalchemy import func, select

from bench.hops import MANUAL, chain_workflow
from bench.stage import stage
from pipelit.engine.keys import JOURNAL
from pipelit.extensions import db
from pipelit.models import WorkflowExecution
from pipelit.models.execution import LIVE
from pipelit.nodes import registry
from pipelit.services import executions

AT_ONCE = 100
PATIENCE = 120.0
NODES = 3
KIBIBYTE = 1024


@dataclass(frozen=True)
class Sample:
    """What is held after a number of executions; memory in MiB, each worker's with its pool.

    `keys` does not count what is kept for five minutes of every execution that has ended, to know it again.
    """

    executions: int
    per_second: float
    steps_mib: float
    system_mib: float
    server_mib: float
    files: int
    connections: int
    keys: int


def main() -> None:
    """Run the executions and print a line after each tenth of them."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--executions", type=int, default=20_000)
    wanted = parser.parse_args().executions
    print("  ".join(f"{field.name:>11}" for field in fields(Sample)))
    with (
        stage() as prepared,
        prepared.process("pipelit", "worker", "steps") as steps,
        prepared.process("pipelit", "worker", "system") as system,
    ):
        redis: Redis = prepared.app.extensions["pipelit.redis"]
        for done, rate in _tenths(redis, wanted):
            sample = _sample(done, rate, redis, steps.pid, system.pid)
            shown = (f"{value:.1f}" if isinstance(value, float) else str(value) for value in astuple(sample))
            print("  ".join(f"{value:>11}" for value in shown), flush=True)


def _tenths(redis: Redis, wanted: int) -> Iterator[tuple[int, float]]:
    """Run executions, `AT_ONCE` at a time; yields how many have ended and how many did in a second."""
    workflow = chain_workflow(NODES)
    config = registry.get("trigger_manual").configure({})
    for tenth in range(10):
        began, before = time.monotonic(), wanted * tenth // 10
        until = wanted * (tenth + 1) // 10
        for first in range(before, until, AT_ONCE):
            for _ in range(min(AT_ONCE, until - first)):
                executions.begin(workflow, "start", MANUAL, config=config)
            _wait_until_idle(redis)
        yield until, (until - before) / (time.monotonic() - began)


def _wait_until_idle(redis: Redis) -> None:
    live = select(func.count()).select_from(WorkflowExecution).where(WorkflowExecution.status.in_(LIVE))
    until = time.monotonic() + PATIENCE
    while redis.xlen(JOURNAL) or db.session.scalar(live):
        if time.monotonic() > until:
            raise TimeoutError("the executions did not end")
        db.session.rollback()
        time.sleep(0.02)


def _sample(done: int, rate: float, redis: Redis, steps: int, system: int) -> Sample:
    memory: Any = redis.info("memory")
    kept = sum(1 for _ in redis.scan_iter("pipelit:x:*:meta", count=1_000))
    return Sample(
        executions=done,
        per_second=rate,
        steps_mib=sum(_resident(pid) for pid in (steps, *_children(steps))),
        system_mib=_resident(system),
        server_mib=memory["used_memory_rss"] / KIBIBYTE / KIBIBYTE,
        files=sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (steps, *_children(steps), system)),
        connections=len(redis.client_list()),
        keys=int(redis.dbsize()) - kept,
    )


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _resident(pid: int) -> float:
    """Resident memory in MiB, pages shared with others by their part."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / KIBIBYTE


if __name__ == "__main__":
    main()
