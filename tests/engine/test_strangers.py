"""Workers that do not know a node type, as when some of them are older than the rest of the installation."""

from typing import Any

import pytest

from pipelit.engine.core.commands import RunStep
from pipelit.engine.core.graph import NodeId
from pipelit.engine.core.state import StepId
from pipelit.engine.keys import stranger_key
from pipelit.engine.lanes import lane_of
from pipelit.engine.runtime import engine
from pipelit.engine.slices import following
from pipelit.engine.strangers import PATIENCE_MS
from pipelit.engine.worker import Worker
from pipelit.nodes import registry
from tests.engine.stories import attempts, outcome, run_with, started, task_of, template
from tests.graphs import graph
from tests.support.hand import Delivery, Hand

NODES = {"a": template("a"), "b": ("calculator", {"expression": "1 + 1"})}
EDGES = "start -> a; a -> b"


def older_worker(*unknown: str) -> Worker:
    """A worker that does not know these node types."""
    ours = engine().worker
    types = {name: known for name, known in registry.load().items() if name not in unknown}
    return Worker(ours.coordinator, ours.http, ours.limits, types)


def next_of(hand: Hand) -> Delivery:
    delivery = hand.take()
    assert delivery is not None
    return delivery


def let_pass(hand: Hand, delivery: Delivery) -> None:
    """Let a minute have passed since workers began to hand a step to one another."""
    hand.redis.decrby(stranger_key(task_of(delivery)), PATIENCE_MS)


@pytest.mark.parametrize("unknown", ["template", "calculator"], ids=["its own type", "another type of its workflow"])
def test_a_step_that_an_older_worker_does_not_know_is_run_by_another(hand: Hand, unknown: str) -> None:
    row = started(NODES, EDGES)
    sent = next_of(hand)
    for _ in range(3):
        run_with(older_worker(unknown), sent)
        (again,) = hand.waiting()
        assert (again.task_id, again.args) == (sent.task_id, sent.args)
        sent = next_of(hand)

    hand.run(sent)
    hand.run_all()

    assert attempts(row, "a") == [(1, "success", None)]
    assert outcome(row).final_output == {"result": 2}


def test_a_step_whose_type_nobody_knows_fails_after_a_minute_and_names_it(hand: Hand) -> None:
    row = started(NODES, EDGES)
    hand.deliver()
    worker, sent = older_worker("calculator"), next_of(hand)
    run_with(worker, sent)
    again = next_of(hand)
    let_pass(hand, again)

    run_with(worker, again)

    assert hand.waiting() == []
    assert attempts(row, "b") == [(1, "failed", "node_type_unknown")]
    ended = outcome(row)
    assert (ended.status, ended.error_code) == ("failed", "node_type_unknown")
    assert "'calculator'" in str(ended.error_message)


def test_what_does_not_need_the_type_that_nobody_knows_runs_all_the_same(hand: Hand) -> None:
    nodes: dict[str, Any] = {
        "pick": ("switch", {"rules": [{"field": "trigger.text", "operator": "equals", "value": "x", "route": "x"}]}),
        **NODES,
    }
    row = started(nodes, "start -> pick; pick.default -> a; pick.x -> b", text="y")
    worker = older_worker("calculator")
    while sent := hand.take():
        run_with(worker, sent)
        if hand.redis.exists(stranger_key(task_of(sent))):
            let_pass(hand, sent)

    assert outcome(row).final_output == "a"


def test_what_comes_next_is_sent_although_its_type_is_not_known_here() -> None:
    plan = graph("start -> a")
    assert plan.nodes[NodeId("a")].type not in registry.load()

    assert lane_of(plan.nodes[NodeId("a")]) == "default"
    assert following(plan, [RunStep(StepId(NodeId("a")), 1)]) is None
