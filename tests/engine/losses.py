"""A server that loses everything, and what brings it back, for stories about what becomes of executions."""

from pipelit import clock
from pipelit.engine.runtime import engine
from pipelit.extensions import db
from tests.engine.stories import template
from tests.support.hand import Hand

CHAIN = {"a": template("a"), "b": template("{{ a.output }}b"), "c": template("{{ b.output }}c")}
LOOP = {
    "each": ("loop", {"items": "{{ trigger.payload.names }}", "concurrency": 2}),
    "greet": template("hi {{ loop.item }}"),
    "all": template("{{ each.results | join(', ') }}"),
}
LOOPED = "start -> each; each =body=> greet; greet =return=> each; each -> all"


def lose(hand: Hand, *, is_drained: bool = True) -> None:
    """The server forgets everything; what SQL had not heard of by then is gone."""
    if is_drained:
        engine().drain_journal()
    hand.redis.flushall()


def restore(hand: Hand) -> int:
    """What the ticks after a loss do, workers having had their time to say what they run."""
    losses = engine().losses
    assert losses.notice(clock.now_ms())
    return losses.search()


def break_connection() -> None:
    """Leave this thread's session with a connection that is gone, in the midst of a transaction."""
    raw = db.session.connection().connection.dbapi_connection
    assert raw is not None
    raw.close()
