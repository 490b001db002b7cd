"""Local slices: pure steps that go on in the task of the one before, and everything that must be as if they had not."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError

from pipelit.engine.coordinator import Coordinator
from pipelit.engine.core.events import StepSucceeded
from pipelit.engine.core.state import StepId
from pipelit.engine.keys import TaskId
from pipelit.engine.narrator import Report
from pipelit.engine.runtime import engine
from pipelit.engine.slices import Here, found_again
from pipelit.engine.store import Store, Transaction
from pipelit.engine.worker import Worker
from pipelit.models import WorkflowExecution
from pipelit.nodes import registry
from pipelit.services import execution_events, executions
from tests.engine.stories import (
    START,
    attempts,
    author,
    claim_as,
    dead_owner,
    outcome,
    run_all_with,
    run_with,
    started_with,
    task_of,
    template,
    worker_that,
)
from tests.support.examples import examples
from tests.support.hand import Hand
from tests.support.workflows import Nodes, build

CHAIN = {"a": template("{{ trigger.text }}a"), "b": template("{{ a.output }}b"), "c": template("{{ b.output }}c")}


def started(nodes: Nodes, edges: str, *, placement: str = "local", **start: Any) -> WorkflowExecution:
    """An execution whose steps run in slices."""
    workflow = build({**START, **nodes}, edges, placement=placement)
    return executions.start(workflow.slug, by=author(uuid4().hex), **start)


def steps_sent(hand: Hand) -> list[str]:
    """The nodes whose steps came as messages."""
    return [task_of(delivery).step.node for delivery in hand.delivered if delivery.name == "pipelit.run_step"]


def test_a_chain_of_pure_steps_is_one_task(hand: Hand) -> None:
    row = started(CHAIN, "start -> a; a -> b; b -> c", text="-")

    hand.run_all()

    ended = outcome(row)
    assert (ended.status, ended.final_output) == ("completed", "-abc")
    assert steps_sent(hand) == ["a"]
    assert [(log.node_id, log.attempt, log.status) for log in ended.logs[1:]] == [
        (node, 1, "success") for node in ("a", "b", "c")
    ]
    told = [event["data"].get("status") for event in execution_events.after(row.execution_id, 0, 100)]
    assert told == ["running", "success", *["running", "success"] * 3, "completed"]


def test_what_may_run_in_parallel_is_sent(hand: Hand) -> None:
    nodes = {name: template(name) for name in "abc"} | {"both": ("merge", {"mode": "any"})}

    row = started(nodes, "start -> a; a -> b; a -> c; b -> both; c -> both", text="")

    hand.run_all()
    assert outcome(row).status == "completed"
    assert sorted(steps_sent(hand)) == ["a", "b", "c"]


def test_a_step_that_waits_is_sent_and_what_follows_it_goes_on_in_place(hand: Hand) -> None:
    nodes = {"a": template("a"), "b": ("wait", {"seconds": 0.001}), "c": template("c"), "d": template("d")}

    row = started(nodes, "start -> a; a -> b; b -> c; c -> d")

    hand.run_all()
    assert outcome(row).final_output == "d"
    assert steps_sent(hand) == ["a", "b", "c"]


def test_a_sequential_loop_goes_on_in_place(hand: Hand) -> None:
    nodes = {"each": ("loop", {"items": "{{ trigger.payload.items }}"}), "x": template("{{ loop.item * 2 }}")}

    row = started(nodes, "start -> each; each =body=> x; x =return=> each", payload={"items": [1, 2, 3]})

    hand.run_all()
    assert outcome(row).final_output == {"results": [2, 4, 6]}
    assert steps_sent(hand) == ["each"]


def test_others_get_their_turn_when_the_time_is_up(hand: Hand) -> None:
    row = started(CHAIN, "start -> a; a -> b; b -> c", text="-")
    impatient = replace(engine().worker.limits, slice_ms=0)
    worker = Worker(engine().coordinator, engine().worker.http, impatient, registry.load())

    sent = []
    while delivery := hand.take():
        sent.append(task_of(delivery).step.node)
        run_with(worker, delivery)

    assert sent == ["a", "b", "c"]
    assert outcome(row).final_output == "-abc"


def test_a_workflow_that_says_nothing_is_chained(hand: Hand) -> None:
    workflow = build({**START, **CHAIN}, "start -> a; a -> b; b -> c")

    row = started_with(workflow, text="")

    hand.run_all()
    assert outcome(row).status == "completed"
    assert steps_sent(hand) == ["a", "b", "c"]


def test_a_step_that_was_going_on_in_a_process_that_died_is_found_by_the_redelivery(hand: Hand) -> None:
    row = started(CHAIN, "start -> a; a -> b; b -> c", text="-")
    first = hand.take()
    assert first is not None
    claim_as(dead_owner(), first)
    committed = engine().coordinator.commit(
        row.execution_id,
        StepSucceeded(StepId("a"), 1),
        Report(outputs='{"output":"-a"}'),
        here=Here(dead_owner(), 6_000),
    )
    assert committed is not None
    assert committed.following is not None
    assert hand.waiting() == []

    hand.run(first)

    hand.run_all()
    assert outcome(row).final_output == "-abc"
    assert attempts(row, "b") == [(1, "failed", "worker_lost"), (2, "success", None)]


class ForgetfulStore(Store):
    """A server whose answers to some commits, though applied, are lost on their way; `forgets` is asked at each."""

    def __init__(self, forgets: Callable[[], bool]) -> None:
        super().__init__(engine().redis, events_kept=1_000)
        self.forgets = forgets
        self.lost = 0

    def commit(self, transaction: Transaction, version: str) -> str | None:
        answer = super().commit(transaction, version)
        if answer is not None and self.forgets():
            self.lost += 1
            raise RedisConnectionError("the connection was closed before the answer came")
        return answer


def worker_on(store: Store) -> Worker:
    """A worker that is never out of time."""
    ours = engine()
    coordinator = Coordinator(replace(ours.coordinator.tools, store=store), ours.plans)
    return Worker(coordinator, ours.worker.http, replace(ours.worker.limits, slice_ms=60_000), registry.load())


def test_a_slice_whose_commit_was_applied_without_an_answer_goes_on_with_what_it_claimed(hand: Hand) -> None:
    row = started(CHAIN, "start -> a; a -> b; b -> c", text="-")
    store = ForgetfulStore(lambda: True)

    run_all_with(worker_on(store), hand)

    ended = outcome(row)
    assert store.lost == 3
    assert steps_of(ended) == [("a", 1, "success"), ("b", 1, "success"), ("c", 1, "success")]
    assert (ended.status, ended.final_output) == ("completed", "-abc")


def steps_of(row: WorkflowExecution) -> list[tuple[str, int, str]]:
    return [(log.node_id, log.attempt, log.status) for log in row.logs[1:]]


def test_a_claim_that_was_taken_away_meanwhile_is_not_found_again(hand: Hand) -> None:
    row = started(CHAIN, "start -> a; a -> b; b -> c", text="-")
    first = hand.take()
    assert first is not None
    claim_as("elsewhere/1.2/3", first)
    here = Here("elsewhere/1.2/3", 6_000)
    done = Report(outputs='{"output":"-a"}')
    assert engine().coordinator.commit(row.execution_id, StepSucceeded(StepId("a"), 1), done, here=here)
    assert found_again(engine().store, row.execution_id, replace(here, token="another")) is None
    assert found_again(engine().store, row.execution_id, here)

    engine().worker.lost(TaskId(row.execution_id, StepId("b"), 1))

    assert found_again(engine().store, row.execution_id, here) is None
    hand.run_all()
    assert outcome(row).final_output == "-abc"


def test_a_cancelled_execution_goes_on_no_further(hand: Hand) -> None:
    row = started(CHAIN, "start -> a; a -> b; b -> c", text="")

    def cancelled(_context: Any) -> Any:
        executions.cancel(row.execution_id, by=None)
        raise AssertionError("whatever it says now, nobody listens")

    run_all_with(worker_that(cancelled), hand)

    assert outcome(row).status == "cancelled"
    assert [(log.node_id, log.status) for log in outcome(row).logs] == [("start", "success"), ("a", "cancelled")]


@st.composite
def workflows(draw: st.DrawFn) -> tuple[Nodes, str]:
    """A few nodes in a row of layers, each joined to some before it; switches, loops and failures among them."""
    names = [f"n{index}" for index in range(draw(st.integers(1, 7)))]
    nodes: dict[str, tuple[str, dict[str, Any]]] = {}
    edges: list[str] = []
    for name in names:
        nodes[name] = draw(st.sampled_from(list(_kinds(name))))
        if nodes[name][0] == "loop":
            body = f"{name}_body"
            nodes[body] = draw(st.sampled_from([template("{{ loop.item }}!"), template("{{ loop.nothing }}")]))
            edges += [f"{name} =body=> {body}", f"{body} =return=> {name}"]
        sources = draw(st.lists(st.sampled_from(["start", *names[: names.index(name)]]), min_size=1, max_size=3))
        for source in dict.fromkeys(sources):
            is_switch = nodes.get(source, ("",))[0] == "switch"
            route = draw(st.sampled_from([".yes", ".default"])) if is_switch else ""
            edges.append(f"{source}{route} -> {name}")
    return nodes, "; ".join(edges)


def _kinds(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield template(f"{{{{ trigger.text }}}}{name}")
    yield template("{{ trigger.nothing }}", failure={"on_error": "default", "default": name})
    yield "set_fields", {"fields": {"name": name, "number": "{{ trigger.payload.number }}"}}
    # Not `any`: what such a merge reads may depend on which branch comes first, here as there.
    yield "merge", {"mode": "all"}
    yield "merge", {"mode": "append"}
    rule = {"field": "trigger.payload.number", "operator": "gt", "value": 2, "route": "yes"}
    yield "switch", {"rules": [rule]}
    yield "loop", {"items": "{{ trigger.payload.items }}", "on_error": "collect"}
    yield "loop", {"items": "{{ trigger.payload.items }}", "concurrency": 2}


@given(workflow=workflows(), number=st.integers(0, 5), items=st.lists(st.integers(), max_size=4))
@examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_slices_change_nothing_but_where_steps_run(
    hand: Hand, workflow: tuple[Nodes, str], number: int, items: list[int]
) -> None:
    payload = {"number": number, "items": items}

    chained, local = (
        started(*workflow, placement=placement, text="t", payload=payload) for placement in ("chained", "local")
    )
    hand.run_all()

    first, second = outcome(chained), outcome(local)
    assert (first.status, first.error_code, first.final_output) == (
        second.status,
        second.error_code,
        second.final_output,
    )
    if first.status == "completed":  # What else had begun when one step failed is a matter of timing.
        assert _logged(first) == _logged(second)
        assert _told(first) == _told(second)


@given(workflow=workflows(), items=st.lists(st.integers(), max_size=3), lost=st.lists(st.booleans(), max_size=6))
@examples(10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lost_answers_change_nothing_in_slices(
    hand: Hand, workflow: tuple[Nodes, str], items: list[int], lost: list[bool]
) -> None:
    payload = {"number": 3, "items": items}
    first = started(*workflow, text="t", payload=payload)
    hand.run_all()

    answers = iter(lost)
    second = started(*workflow, text="t", payload=payload)
    run_all_with(worker_on(ForgetfulStore(lambda: next(answers, False))), hand)
    hand.run_all()

    assert outcome(first).status == outcome(second).status
    if outcome(first).status == "completed":
        assert _logged(outcome(first)) == _logged(outcome(second))


def _logged(row: WorkflowExecution) -> Counter[tuple[Any, ...]]:
    return Counter(
        (log.node_id, log.scope, log.attempt, log.status, log.error_code, log.input, log.output) for log in row.logs
    )


def _told(row: WorkflowExecution) -> Counter[tuple[Any, ...]]:
    events = execution_events.after(row.execution_id, 0, 1_000)
    return Counter(
        (event["type"], *(json.dumps(event["data"].get(name)) for name in ("node_id", "scope", "status", "output")))
        for event in events
    )
