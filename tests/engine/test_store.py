"""The one script, where a transition is very large."""

from pipelit.engine.keys import DEADLINES
from pipelit.engine.runtime import engine
from pipelit.engine.store import Transaction
from tests.support.hand import Hand

MANY = 9_000
"""More words than Lua unpacks at once."""


def test_a_transition_may_touch_any_number_of_steps(hand: Hand) -> None:
    members = [f"execution:step:loop-{index}:a1" for index in range(MANY)]
    hand.redis.zadd(DEADLINES, dict.fromkeys(members, 1.0))
    transaction = Transaction("execution", "story")
    transaction.set_fields(transaction.keys.steps, dict.fromkeys(members, "x"))
    transaction.delete_fields(transaction.keys.steps, members)
    transaction.unwatch(*members)

    assert engine().store.commit(transaction, "")

    assert hand.redis.zcard(DEADLINES) == 0
    assert hand.redis.hlen(transaction.keys.steps) == 0


def test_a_transition_made_for_an_older_version_changes_nothing(hand: Hand) -> None:
    first, second = Transaction("execution", "story"), Transaction("execution", "story")
    first.set_fields(first.keys.steps, {"a": "1"})
    second.set_fields(second.keys.steps, {"a": "2"})

    assert engine().store.commit(first, "")
    assert not engine().store.commit(second, "")

    assert hand.redis.hget(first.keys.steps, "a") == "1"
