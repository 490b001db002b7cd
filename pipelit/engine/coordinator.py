"""Event in, transition out: asks the core what follows, and commits all of it at once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipelit import clock
from pipelit.engine import blobs, values
from pipelit.engine.cache import Plans
from pipelit.engine.core.events import Cancelled, Event, Failure, Started
from pipelit.engine.core.graph import Json
from pipelit.engine.core.replay import advance_past
from pipelit.engine.core.scheduler import advance
from pipelit.engine.core.state import State
from pipelit.engine.durability import Durability, Releases
from pipelit.engine.entrance import Entrance, Guest
from pipelit.engine.groups import Groups, Place
from pipelit.engine.narrator import Report
from pipelit.engine.slices import Committed, Here, Placement
from pipelit.engine.store import Meta, Snapshot
from pipelit.engine.transition import Tools, Transition


@dataclass(frozen=True, slots=True)
class Start:
    """An execution whose row is in SQL and which is to begin; `reply_to` is a Redis channel that is told its end.

    `place` is where it stands in its concurrency group, if its workflow has a limit.
    """

    execution_id: str
    plan_hash: str
    workflow_id: int
    slug: str
    trigger_output: Mapping[str, Json]
    max_seconds: int | None = None
    reply_to: str | None = None
    placement: str = Placement.CHAINED
    durability: str = Durability.ASYNC
    place: Place | None = None


class Coordinator:
    """The one way into the working state; shared by the threads of a process."""

    def __init__(self, tools: Tools, plans: Plans) -> None:
        self.tools = tools
        self.store = tools.store
        self.plans = plans
        self.groups = Groups(tools.store.redis, events_kept=tools.store.events_kept)
        self.entrance = Entrance(tools.store, self.groups, tools.dispatcher, self._cancel)

    def start(self, start: Start) -> bool:
        """Begin an execution. False if it has begun already, or even ended; of one in a group, also if it waits."""
        plan = self.plans.get(start.workflow_id, start.plan_hash)
        at = clock.precise_ms()
        group = start.place.group if start.place else ""
        meta = Meta(start.plan_hash, start.workflow_id, start.slug, at, start.placement, start.durability, group)
        before = State()
        after, commands = advance(plan, before, Started())
        transition = Transition(self.tools, start.execution_id, plan, meta, at)
        outputs = self.kept_outputs(start.execution_id, start.trigger_output)
        transition.begin(outputs, start.max_seconds, start.reply_to)
        transaction = transition.build(before, after, Started(), commands, Report())
        if start.place is not None:
            return self.entrance.admit(Guest(transaction, start.place, plan, start.slug, start.reply_to))
        return self.store.commit(transaction, "") is not None

    def kept_outputs(self, execution_id: str, outputs: Mapping[str, Json]) -> str:
        """The trigger's outputs, large ones by reference. Needs an application context only if there are any."""
        text = values.encode_outputs(outputs)
        if len(text) <= self.tools.blob_bytes:
            return text
        return blobs.put(execution_id, outputs, self.tools.blob_bytes)

    def _cancel(self, execution_id: str, failure: Failure) -> bool:
        return self.tell(execution_id, Cancelled(failure))

    def tell(
        self,
        execution_id: str,
        event: Event | Callable[[State], Event | None],
        report: Report | None = None,
        *,
        known: tuple[Snapshot, Meta] | None = None,
    ) -> bool:
        """Commit what follows from an event. False if nothing does: it is late, repeated, or the execution is over.

        `event` may be a function of the state that chooses one. `known` saves reading what was read just now; when
        somebody else was faster, the state is read again and the event told to what it is by then.
        """
        return self.commit(execution_id, event, report, known=known) is not None

    def commit(
        self,
        execution_id: str,
        event: Event | Callable[[State], Event | None],
        report: Report | None = None,
        *,
        known: tuple[Snapshot, Meta] | None = None,
        here: Here | None = None,
    ) -> Committed | None:
        """As `tell`, saying what was committed. With `here`, a pure step that alone becomes ready is claimed for it."""
        while True:
            current = known or self.store.load(execution_id)
            if current is None:
                return None
            snapshot, meta = current
            fact = event(snapshot.state) if callable(event) else event
            if fact is None:
                return None
            plan = self.plans.get(meta.workflow_id, meta.plan_hash)
            releases = Releases(execution_id, meta.durability)
            after, commands = advance_past(plan, snapshot.state, fact, releases.has)
            if after is snapshot.state:
                return None
            transition = Transition(self.tools, execution_id, plan, meta, clock.precise_ms(), here)
            transition.edits = releases.edits
            transaction = transition.build(snapshot.state, after, fact, commands, report or Report())
            version = self.store.commit(transaction, snapshot.version)
            if version is not None:
                transition.settle()
                return transition.committed(Snapshot(version, after))
            known = None
