"""Plans are found where they are: in the process, in Redis, in SQL; and an old one lives as long as it is needed."""

from pipelit.engine.cache import Plans, Recent
from pipelit.engine.core import codec
from pipelit.engine.runtime import engine
from pipelit.extensions import db
from pipelit.models.execution import CompiledPlan
from pipelit.services import executions, plans
from tests.engine.stories import author, outcome, started, template
from tests.support.hand import Hand


def test_a_worker_that_finds_no_copy_in_redis_asks_sql_and_leaves_one(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    key = f"pipelit:plan:{row.workflow_id}:{row.plan_hash}"
    shared = hand.redis.get(key)
    hand.redis.delete(key)

    plan = Plans(hand.redis).get(row.workflow_id, row.plan_hash)

    assert codec.structure_hash(codec.encode_plan(plan)) == row.plan_hash
    assert hand.redis.get(key) == shared
    assert 0 < hand.redis.ttl(key) <= 86_400


def test_a_process_that_knows_a_plan_asks_nobody(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")
    known = engine().plans
    known.get(row.workflow_id, row.plan_hash)
    hand.redis.delete(f"pipelit:plan:{row.workflow_id}:{row.plan_hash}")

    known.get(row.workflow_id, row.plan_hash)

    assert not hand.redis.exists(f"pipelit:plan:{row.workflow_id}:{row.plan_hash}")


def test_executions_of_one_revision_share_a_plan_and_a_version(hand: Hand) -> None:
    ada = author()
    first = started({"a": template("a")}, "start -> a", by=ada)

    second = executions.start(first.workflow.slug, by=ada)

    assert (first.plan_hash, first.workflow_version_id) == (second.plan_hash, second.workflow_version_id)
    assert db.session.query(CompiledPlan).count() == 1


def test_a_workflow_that_did_not_change_compiles_to_the_same_plan(hand: Hand) -> None:
    row = started({"a": template("a")}, "start -> a")

    engine().plans.compiled = Recent(1)
    again = plans.current(outcome(row).workflow, "start")

    assert again.plan_hash == row.plan_hash


def test_the_ones_used_last_are_kept() -> None:
    recent: Recent[str, int] = Recent(2)
    for name, value in (("a", 1), ("b", 2)):
        recent.put(name, value)

    recent.get("a")
    recent.put("c", 3)

    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (1, None, 3)
