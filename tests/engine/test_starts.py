"""What was accepted begins, once, even if the broker was away when it was accepted."""

import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from pipelit import clock
from pipelit.config import Settings
from pipelit.engine.recovery import START_GRACE, start_of
from pipelit.engine.runtime import engine
from pipelit.errors import WrongState
from pipelit.extensions import db, transaction
from pipelit.launcher import embedded
from pipelit.launcher.environment import prepare_home
from pipelit.models import Workflow, WorkflowExecution
from pipelit.services import executions
from tests.engine.stories import attempts, author, keys_of, outcome, template
from tests.support.application import KEYS
from tests.support.hand import Hand
from tests.support.workflows import build

ID = WorkflowExecution.execution_id


@dataclass
class Broker:
    """A server that can be taken away and given back, with all it had."""

    settings: Settings
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    def start(self) -> None:
        self.process = subprocess.Popen(embedded.command(self.settings), stdout=subprocess.DEVNULL)
        assert embedded.wait_until_answering(self.settings, seconds=60)

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def settings(database_url: str) -> Iterator[Settings]:
    """An installation with a server of its own, which nobody has started."""
    with tempfile.TemporaryDirectory(prefix="pl-away-") as home:
        settings = Settings.load({**KEYS, "PIPELIT_HOME": home, "DATABASE_URL": database_url})
        prepare_home(settings)
        yield settings


@pytest.fixture
def broker(settings: Settings) -> Iterator[Broker]:
    broker = Broker(settings)
    broker.start()
    yield broker
    broker.kill()


def workflow_of(text: str) -> Workflow:
    return build({"start": ("trigger_manual", {}), "a": template(text)}, "start -> a")


def make_overdue(row: WorkflowExecution) -> None:
    """Let an execution have been accepted a while ago."""
    with transaction() as session:
        kept = session.get(WorkflowExecution, row.execution_id)
        assert kept is not None
        kept.created_at = clock.now() - 2 * START_GRACE


def test_what_was_accepted_without_a_broker_starts_when_it_is_back_and_once(broker: Broker, hand: Hand) -> None:
    ada, workflow = author(), workflow_of("{{ trigger.text }}")
    broker.kill()

    row = executions.start(workflow.slug, by=ada, text="patience")
    assert row.status == "pending"
    broker.start()
    make_overdue(row)
    started = [engine().recovery.start_pending() for _ in range(2)]
    hand.run_all()

    assert started == [1, 0]
    assert (outcome(row).status, outcome(row).final_output) == ("completed", "patience")
    assert attempts(row, "a") == [(1, "success", None)]


def test_what_was_not_committed_was_not_accepted(broker: Broker, hand: Hand) -> None:
    ada, workflow = author(), workflow_of("a")
    executions.start(workflow.slug, by=ada)
    hand.run_all()

    with pytest.raises(IntegrityError):
        executions.start(workflow.slug, by=ada, execution_id=db.session.scalars(select(ID)).one())

    assert db.session.scalar(select(func.count()).select_from(WorkflowExecution)) == 1
    assert (hand.waiting(), engine().recovery.start_pending()) == ([], 0)


def test_what_was_accepted_a_moment_ago_is_left_to_whoever_accepted_it(broker: Broker, hand: Hand) -> None:
    ada, workflow = author(), workflow_of("a")
    broker.kill()
    row = executions.start(workflow.slug, by=ada)
    broker.start()

    assert engine().recovery.start_pending() == 0

    assert hand.waiting() == []
    assert outcome(row).status == "pending"


def test_what_was_never_begun_can_be_cancelled_and_begins_no_more(broker: Broker, hand: Hand) -> None:
    ada, workflow = author(), workflow_of("a")
    broker.kill()
    row = executions.start(workflow.slug, by=ada)
    broker.start()

    cancelled = executions.cancel(row.execution_id, by=ada)
    make_overdue(row)

    assert cancelled.status == "cancelled"
    assert engine().recovery.start_pending() == 0
    assert not engine().coordinator.start(start_of(outcome(row)))
    assert (hand.waiting(), keys_of(row)) == ([], {"meta"})
    with pytest.raises(WrongState):
        executions.cancel(row.execution_id, by=ada)


def test_two_who_start_the_same_execution_begin_it_once(broker: Broker, hand: Hand) -> None:
    ada, workflow = author(), workflow_of("a")
    row = executions.start(workflow.slug, by=ada)

    assert not engine().coordinator.start(start_of(outcome(row)))

    assert len(hand.waiting()) == 1


def test_a_restart_of_the_broker_loses_nothing_of_what_is_under_way(broker: Broker, hand: Hand, app: Flask) -> None:
    ada = author()
    workflow = build(
        {"start": ("trigger_manual", {}), "a": template("a"), "b": template("{{ a.output }}b")}, "start -> a; a -> b"
    )
    row = executions.start(workflow.slug, by=ada)
    hand.deliver()

    # The log is written to disk once a second, so that this much may be lost by a machine, but not by a process.
    broker.kill()
    broker.start()
    hand.run_all()

    assert outcome(row).final_output == "ab"
    assert attempts(row, "a") == [(1, "success", None)]
    assert Path(broker.settings.home / "redis" / "appendonlydir").is_dir()
    db.session.remove()
