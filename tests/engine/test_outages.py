"""A server or a database that is away when a step is about to run: the step waits for it, and does not fail."""

import threading
from collections.abc import Callable
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import event

from pipelit.engine.cache import Plans
from pipelit.engine.coordinator import Coordinator
from pipelit.engine.core.graph import Plan
from pipelit.engine.runtime import engine
from pipelit.engine.worker import Worker
from pipelit.extensions import db
from pipelit.models import WorkflowExecution
from pipelit.nodes.base import StepContext
from pipelit.nodes.outcome import Completed
from tests.engine.losses import break_connection
from tests.engine.stories import attempts, beside, outcome, run_with, started, template, worker_that
from tests.support.hand import Hand
from tests.support.product import wait_until

LARGE = 300_000
CHAIN = {"a": template(f"{{{{ 'x' * {LARGE} }}}}"), "b": template("{{ a.output | length }}")}
EDGES = "start -> a; a -> b"


def rename(table: str, name: str) -> None:
    db.session.rollback()
    with db.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {name}")


def without(table: str, hand: Hand, work: Callable[[], None]) -> None:
    """Do the work while a table is away, until that was noticed."""
    missed = threading.Event()
    event.listen(db.engine, "handle_error", lambda _context: missed.set())
    rename(table, "elsewhere")
    with beside(hand, work):
        try:
            wait_until(missed.is_set, f"{table} is missed")
        finally:
            rename("elsewhere", table)


def at_its_second_step(hand: Hand) -> WorkflowExecution:
    """An execution that comes to a step whose input is large."""
    row = started(CHAIN, EDGES)
    hand.deliver()
    return row


def test_a_step_waits_for_the_database_that_has_its_large_input(hand: Hand) -> None:
    row = at_its_second_step(hand)
    delivery = hand.take()
    assert delivery is not None

    without("blobs", hand, lambda: hand.run(delivery))

    assert outcome(row).final_output == LARGE
    assert attempts(row, "b") == [(1, "success", None)]


def test_a_node_that_asks_for_its_inputs_waits_for_the_database_too(hand: Hand) -> None:
    def measured(context: StepContext) -> Completed:
        return Completed({"output": len(str(context.inputs[0].value))})

    row = started({**CHAIN, "b": template("what it says itself")}, EDGES)
    hand.deliver()
    delivery = hand.take()
    assert delivery is not None

    without("blobs", hand, lambda: run_with(worker_that(measured), delivery))

    assert outcome(row).final_output == LARGE
    assert attempts(row, "b") == [(1, "success", None)]


class AwayAtFirst(Plans):
    """Plans on a server that does not answer the first time."""

    def __init__(self, redis: Any) -> None:
        super().__init__(redis)
        self.asked = 0

    def get(self, workflow_id: int, plan_hash: str) -> Plan:
        self.asked += 1
        if self.asked == 1:
            raise RedisConnectionError("away")
        return super().get(workflow_id, plan_hash)


def worker_with(plans: Plans) -> Worker:
    ours = engine().worker
    return Worker(Coordinator(ours.coordinator.tools, plans), ours.http, ours.limits, ours.types)


def test_a_process_waits_for_the_server_that_has_a_plan_it_does_not_know(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    plans = AwayAtFirst(hand.redis)
    delivery = hand.take()
    assert delivery is not None

    run_with(worker_with(plans), delivery)

    assert plans.asked > 1
    assert attempts(row, "a") == [(1, "success", None)]


def test_a_process_waits_for_the_database_that_has_a_plan_it_does_not_know(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    hand.redis.delete(f"pipelit:plan:{row.workflow_id}:{row.plan_hash}")
    delivery = hand.take()
    assert delivery is not None

    without("compiled_plans", hand, lambda: run_with(worker_with(Plans(hand.redis)), delivery))

    assert attempts(row, "a") == [(1, "success", None)]


class CutOff(Plans):
    """Plans in a database that ends the connection when it was asked for the first time."""

    has_answered = False

    def get(self, workflow_id: int, plan_hash: str) -> Plan:
        plan = super().get(workflow_id, plan_hash)
        if not self.has_answered:
            self.has_answered = True
            break_connection()
        return plan


def test_a_connection_that_breaks_after_everything_was_read_fails_no_step(hand: Hand) -> None:
    row = started({"a": template("a"), "b": template("{{ a.output }}b")}, "start -> a; a -> b")
    delivery = hand.take()
    assert delivery is not None

    run_with(worker_with(CutOff(hand.redis)), delivery)
    hand.run_all()

    assert outcome(row).final_output == "ab"
    assert attempts(row, "a") == [(1, "success", None)]
