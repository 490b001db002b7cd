"""A new execution that reuses what an old one has done: from what failed, from a node, from one iteration."""

import json
from typing import Any

import pytest
from sqlalchemy import delete

from pipelit import clock
from pipelit.engine.recovery import START_GRACE
from pipelit.engine.runtime import engine
from pipelit.errors import Invalid, WrongState
from pipelit.extensions import db, transaction
from pipelit.models import Blob, UserProfile, WorkflowExecution
from pipelit.services import disposal, executions, nodes, retries
from pipelit.services.reuse import Retry
from tests.engine.stories import author, outcome, started, template
from tests.support.hand import Hand

CHAIN = {"a": template("a"), "b": template("{{ a.output }}b"), "c": template("{{ b.output }}c")}
EDGES = "start -> a; a -> b; b -> c"
LOOP = {
    "each": ("loop", {"items": "{{ trigger.payload.names }}"}),
    "greet": template("hi {{ loop.item }}"),
    "shout": template("{{ greet.output | upper }}"),
    "all": template("{{ each.results | join(', ') }}"),
}
LOOPED = "start -> each; each =body=> greet; greet -> shout; shout =return=> each; each -> all"


@pytest.fixture
def ada(hand: Hand) -> UserProfile:
    return author()


def retried(hand: Hand, row: WorkflowExecution, by: UserProfile, **wanted: Any) -> WorkflowExecution:
    """The retry of an execution, at its end."""
    begun = retries.retry(row.execution_id, Retry(**wanted), by=by)
    hand.run_all()
    return outcome(begun)


def ran(row: WorkflowExecution) -> list[str]:
    """The steps that an execution ran itself."""
    return [
        f"{log.node_id}@{log.scope}" if log.scope else log.node_id
        for log in row.logs
        if log.attempt and "reused_from" not in json.loads(log.details or "{}")
    ]


def test_what_failed_runs_again_and_what_was_done_is_reused(hand: Hand, ada: UserProfile) -> None:
    nodes_ = {
        "a": template("a"),
        "b": template("{{ a.output }}{{ trigger.payload.key }}"),
        "c": template("{{ b.output }}c"),
    }
    row = started(nodes_, EDGES, by=ada)
    hand.run_all()
    assert outcome(row).status == "failed"

    again = retried(hand, row, ada, inputs={"start": {"payload": {"key": "b"}}})

    assert (again.status, again.final_output, ran(again)) == ("completed", "abc", ["b", "c"])
    assert (again.retried_from_id, again.retried_from_step) == (row.execution_id, "b")
    (reused,) = [log for log in again.logs if log.node_id == "a"]
    assert json.loads(reused.details) == {"reused_from": row.execution_id}
    assert json.loads(reused.output) == {"output": "a"}
    assert [log.node_id for log in outcome(row).logs] == ["start", "a", "b"], "the old one stays as it was"


def test_a_completed_execution_is_run_as_a_whole_again(hand: Hand, ada: UserProfile) -> None:
    row = started(CHAIN, EDGES, by=ada)
    hand.run_all()

    again = retried(hand, row, ada)

    assert (again.final_output, ran(again), again.retried_from_step) == ("abc", ["a", "b", "c"], "start")


def test_from_a_node_on_with_other_inputs(hand: Hand, ada: UserProfile) -> None:
    row = started(CHAIN, EDGES, by=ada)
    hand.run_all()

    again = retried(hand, row, ada, from_node_id="c", inputs={"b": {"output": "edited "}})

    assert (again.final_output, ran(again)) == ("edited c", ["c"])
    (edited,) = [log for log in again.logs if log.node_id == "b"]
    assert json.loads(edited.details) == {"reused_from": row.execution_id, "edited": True}


def test_what_was_cancelled_goes_on_where_it_stood(hand: Hand, ada: UserProfile) -> None:
    row = started(CHAIN, EDGES, by=ada)
    hand.deliver()
    executions.cancel(row.execution_id, by=ada)
    hand.run_all()

    again = retried(hand, row, ada)

    assert (again.final_output, ran(again)) == ("abc", ["b", "c"])


def test_one_iteration_of_a_loop_runs_again_with_another_item(hand: Hand, ada: UserProfile) -> None:
    row = started(LOOP, LOOPED, by=ada, payload={"names": ["Ada", "Bob", "Cy"]})
    hand.run_all()

    again = retried(hand, row, ada, from_node_id="greet", scope="each:1", inputs={"each": {"item": "Eve"}})

    assert again.final_output == "HI ADA, HI EVE, HI CY"
    assert sorted(ran(again)) == sorted(["greet@each:1", "shout@each:1", "each", "all"])
    assert outcome(row).final_output == "HI ADA, HI BOB, HI CY"


def test_a_node_in_every_iteration(hand: Hand, ada: UserProfile) -> None:
    row = started(LOOP, LOOPED, by=ada, payload={"names": ["Ada", "Bob"]})
    hand.run_all()

    again = retried(hand, row, ada, from_node_id="shout")

    assert again.final_output == "HI ADA, HI BOB"
    assert sorted(ran(again)) == sorted(["shout@each:0", "shout@each:1", "each", "all"])


def test_the_iteration_that_failed_a_loop_runs_again_and_the_loop_goes_on(hand: Hand, ada: UserProfile) -> None:
    failing = {**LOOP, "shout": template("{{ greet.output | upper }}{{ trigger.payload.mark }}")}
    row = started(failing, LOOPED, by=ada, payload={"names": ["Ada", "Bob"]})
    hand.run_all()
    assert outcome(row).status == "failed"

    payload = {"names": ["Ada", "Bob"], "mark": "!"}
    again = retried(hand, row, ada, inputs={"start": {"payload": payload}})

    assert again.final_output == "HI ADA!, HI BOB!"
    assert again.retried_from_step == "shout@each:0"
    assert sorted(ran(again)) == sorted(["shout@each:0", "greet@each:1", "shout@each:1", "each", "all"])


def test_a_long_loop_and_large_outputs_are_copied(hand: Hand, ada: UserProfile) -> None:
    names = [f"n{index}" for index in range(130)]
    parts = {
        **LOOP,
        "big": template("{{ 'x' * 9000 }}{{ trigger.text }}"),
        "end": template("{{ big.output | length }} {{ all.output | length }}"),
    }
    row = started(
        parts,
        f"start -> big; big -> each; {LOOPED.partition('; ')[2]}; all -> end",
        by=ada,
        payload={"names": names},
        text="y" * 300_000,
    )
    hand.run_all()
    first = outcome(row)
    assert first.status == "completed", first.error_message

    again = retried(hand, row, ada, from_node_id="greet", scope="each:120")
    assert again.final_output == first.final_output
    assert sorted(ran(again)) == sorted(["greet@each:120", "shout@each:120", "each", "all", "end"])
    assert db.session.query(Blob).filter_by(execution_id=again.execution_id).count() > 0
    copy_id, output = again.execution_id, first.final_output
    executions.remove([row.execution_id], by=ada)
    assert disposal.clear(lambda: True) == 1
    db.session.rollback()
    copy = executions.detail(copy_id, by=None)
    assert copy.retried_from_id is None
    assert retried(hand, copy, ada, from_node_id="end").final_output == output


def test_the_workflow_as_it_is_now(hand: Hand, ada: UserProfile) -> None:
    broken = {**CHAIN, "c": template("{{ b.nothing }}")}
    row = started(broken, EDGES, by=ada)
    hand.run_all()
    nodes.update(outcome(row).workflow.slug, "c", {"config": {"template": "{{ b.output }}!"}}, by=ada)

    assert retried(hand, row, ada).status == "failed"
    again = retried(hand, row, ada, workflow_version="current")

    assert (again.final_output, ran(again)) == ("ab!", ["c"])


def test_nobody_is_asked_again_about_what_is_reused(hand: Hand, ada: UserProfile) -> None:
    from pipelit.services import answers
    from pipelit.services.answers import Answer

    held = {**CHAIN, "a": template("a", interrupt_before=True, interrupt_after=True)}
    row = started(held, EDGES, by=ada)
    for _ in range(2):
        hand.run_all()
        answers.answer(row.execution_id, Answer(), by=ada)
    hand.run_all()
    assert outcome(row).status == "completed"

    again = retried(hand, row, ada, from_node_id="b")
    assert (again.status, ran(again)) == ("completed", ["b", "c"])
    assert retried(hand, row, ada, from_node_id="a").status == "interrupted"


def test_a_retry_survives_the_loss_of_everything(hand: Hand, ada: UserProfile) -> None:
    row = started(CHAIN, EDGES, by=ada)
    hand.run_all()
    begun = retries.retry(row.execution_id, Retry(from_node_id="b"), by=ada)
    engine().drain_journal()
    hand.redis.flushall()

    engine().losses.notice(clock.now_ms())
    engine().losses.search()
    hand.run_all()

    assert (outcome(begun).final_output, ran(outcome(begun))) == ("abc", ["b", "c"])


def test_a_retry_without_a_broker_begins_when_it_is_back(hand: Hand, ada: UserProfile) -> None:
    """As if the broker had been away: the rows are there, the working state is not."""
    row = started(CHAIN, EDGES, by=ada)
    hand.run_all()
    begun = retries.retry(row.execution_id, Retry(from_node_id="c"), by=ada)
    hand.redis.delete("default", *hand.redis.keys(f"pipelit:x:{begun.execution_id}:*"))
    with transaction() as session:
        session.get(WorkflowExecution, begun.execution_id).created_at -= 2 * START_GRACE

    assert engine().recovery.start_pending() == 1
    hand.run_all()

    assert (outcome(begun).final_output, ran(outcome(begun))) == ("abc", ["c"])


@pytest.mark.parametrize(
    ("wanted", "where"),
    [
        ({"from_node_id": "nobody"}, "from_node_id"),
        ({"scope": "each:0"}, "scope"),
        ({"from_node_id": "greet", "scope": "each:9"}, "scope"),
        ({"from_node_id": "greet", "scope": "nonsense"}, "scope"),
        ({"from_node_id": "all", "scope": "each:0"}, "scope"),
        ({"from_node_id": "all", "inputs": {"nobody": {}}}, "inputs.nobody"),
        ({"from_node_id": "all", "inputs": {"all": {"output": 1}}}, "inputs.all"),
        ({"from_node_id": "all", "inputs": {"greet": {"output": 1}}}, "inputs.greet"),
        ({"from_node_id": "all", "inputs": {"each": {"typo": 1}}}, "inputs.each"),
        ({"from_node_id": "greet", "scope": "each:0", "inputs": {"each": {"results": []}}}, "inputs.each"),
    ],
)
def test_what_is_not_there_is_named(hand: Hand, ada: UserProfile, wanted: dict[str, Any], where: str) -> None:
    row = started(LOOP, LOOPED, by=ada, payload={"names": ["Ada"]})
    hand.run_all()
    outcome(row)

    with pytest.raises(Invalid) as refused:
        retries.retry(row.execution_id, Retry(**wanted), by=ada)

    assert set(refused.value.errors) == {where}


def test_a_live_execution_is_not_retried(hand: Hand, ada: UserProfile) -> None:
    row = started(CHAIN, EDGES, by=ada)

    with pytest.raises(WrongState):
        retries.retry(row.execution_id, Retry(), by=ada)


def test_a_retry_without_one_of_its_values_is_refused(hand: Hand, ada: UserProfile) -> None:
    nodes_ = {"a": template("{{ 'x' * 300000 }}"), "b": template("{{ a.output | length }}")}
    row = started(nodes_, "start -> a; a -> b", by=ada)
    hand.run_all()
    outcome(row)
    with transaction() as session:
        session.execute(delete(Blob).where(Blob.execution_id == row.execution_id))

    with pytest.raises(WrongState, match="not stored any more"):
        retries.retry(row.execution_id, Retry(from_node_id="b"), by=ada)

    db.session.rollback()
    assert db.session.query(WorkflowExecution).count() == 1
