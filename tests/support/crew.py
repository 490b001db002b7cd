"""Real workers as processes, on a server and a database of their own, for stories about processes that die."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from pipelit.assembly import assemble
from pipelit.config import Settings
from pipelit.engine.runtime import engine
from pipelit.extensions import db, transaction
from pipelit.launcher import embedded
from pipelit.launcher.environment import prepare_home
from pipelit.models import UserProfile, WorkflowExecution
from pipelit.services import executions
from tests.support.application import KEYS
from tests.support.hand import Hand
from tests.support.product import PATIENCE, wait_until
from tests.support.workflows import Nodes, build

WORKER = ("pipelit", "worker")
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class WorkerProcess:
    """One worker, and what it wrote."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def is_running(self) -> bool:
        return self.process.poll() is None

    def children(self) -> list[int]:
        """The processes of its pool."""
        found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in found.split()]

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()


@dataclass
class Crew:
    """An installation whose server and workers a story starts, kills and starts again."""

    settings: Settings
    environ: Mapping[str, str]
    app: Flask
    workers: list[WorkerProcess] = field(default_factory=list)
    server: "subprocess.Popen[bytes] | None" = None

    def start_server(self) -> None:
        self.server = subprocess.Popen(
            embedded.command(self.settings), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        assert embedded.wait_until_answering(self.settings, seconds=PATIENCE)

    def kill_server(self) -> None:
        assert self.server is not None
        self.server.kill()
        self.server.wait()

    def start(self, *lanes: str, program: Sequence[str] = WORKER, **environ: str) -> list[WorkerProcess]:
        """Start a worker for each lane, and wait until all of them take messages."""
        return self._ready([self._spawn(lane, program, **environ) for lane in lanes])

    def run(self, nodes: Nodes, edges: str, **start: Any) -> WorkflowExecution:
        """Start an execution of a new workflow of `start`, a manual trigger, and these nodes."""
        with transaction() as session:
            user = UserProfile(username=f"user{os.urandom(4).hex()}", role="admin")
            session.add(user)
        workflow = build({"start": ("trigger_manual", {}), **nodes}, edges)
        return executions.start(workflow.slug, by=user, **start)

    def outcome(self, row: WorkflowExecution) -> WorkflowExecution:
        db.session.rollback()
        return executions.detail(row.execution_id, by=None)

    def wait_for(
        self, row: WorkflowExecution, status: str = "completed", *, seconds: float = 2 * PATIENCE
    ) -> WorkflowExecution:
        """Wait until an execution has come to this status, and its rows with it."""
        what = f"the execution is {status}"
        wait_until(lambda: self._drained(row).status == status, what, seconds=seconds, or_else=self.said)
        return self.outcome(row)

    def attempts(self, row: WorkflowExecution, node_id: str) -> list[tuple[int, str, str | None]]:
        return [(log.attempt, log.status, log.error_code) for log in self.outcome(row).logs if log.node_id == node_id]

    def said(self) -> str:
        """What the workers wrote, for a story that fails."""
        return "\n".join(f"--- {worker.log.name}\n{worker.said()[-4000:]}" for worker in self.workers)

    def stop(self) -> None:
        for worker in self.workers:
            if worker.is_running():
                worker.kill()
        if self.server is not None and self.server.poll() is None:
            self.kill_server()

    def _drained(self, row: WorkflowExecution) -> WorkflowExecution:
        # Some stories have no system worker, whose task this is.
        engine().drain_journal()
        return self.outcome(row)

    def _spawn(self, lane: str, program: Sequence[str], **environ: str) -> WorkerProcess:
        log = self.settings.home / "logs" / f"{len(self.workers)}-{lane}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *program, lane],
                env={**os.environ, **self.environ, **environ},
                cwd=ROOT,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        worker = WorkerProcess(process, log)
        self.workers.append(worker)
        return worker

    def _ready(self, started: list[WorkerProcess]) -> list[WorkerProcess]:
        def are_ready() -> bool:
            assert all(worker.is_running() for worker in started), self.said()
            seen = self.app.extensions["pipelit.redis"].hkeys("pipelit:workers")
            return all(any(f".{worker.pid}@" in name for name in seen) for worker in started)

        wait_until(are_ready, "the workers are ready", or_else=self.said)
        return started


@contextmanager
def crew_on(database_url: str, **environ: str) -> Iterator[Crew]:
    """An installation on a migrated database; its server runs, its workers do not yet."""
    with tempfile.TemporaryDirectory(prefix="pl-crew-") as home, ExitStack() as stack:
        told = {
            **KEYS,
            "PIPELIT_HOME": home,
            "DATABASE_URL": database_url,
            "PIPELIT_HTTP_ALLOW": "127.0.0.0/8",
            "PIPELIT_LEASE_SECONDS": "2",
            "PIPELIT_WORKERS": "1",
            **environ,
        }
        settings = Settings.load(told)
        prepare_home(settings)
        app = assemble(settings)
        crew = Crew(settings, {**told, "REDIS_URL": ""}, app)
        stack.callback(crew.stop)
        crew.start_server()
        stack.enter_context(app.app_context())
        yield crew
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def crew(database_url: str) -> Iterator[Crew]:
    """Processes of one's own, with leases of 2 s and one step at a time in each worker."""
    with crew_on(database_url) as crew:
        yield crew


@pytest.fixture
def crew_hand(crew: Crew) -> Hand:
    """The test itself as one more worker."""
    return Hand(crew.app)
