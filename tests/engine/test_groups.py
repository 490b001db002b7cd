"""Concurrency groups on the server alone: whatever comes, ends, dies and is lost, no more are live than may be."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from pipelit import clock
from pipelit.engine.dispatch import Message
from pipelit.engine.groups import (
    ENTER,
    GROUPS,
    Answer,
    GroupKeys,
    Groups,
    Overlap,
    Place,
    accepted_at,
    free,
    group_of,
)
from pipelit.engine.keys import ExecutionKeys
from pipelit.engine.line import Script
from pipelit.engine.store import Store, Transaction
from pipelit.extensions import connect_redis
from tests.support.examples import examples, hunting

GROUP = "7:abc"
KEYS = GroupKeys.of(GROUP)
QUEUE = "next-in-group"

Event = tuple[str, int]

KINDS = ("accept", "accept", "end", "message", "lose", "late", "sweep", "again")
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["accept", "accept", "end", "message", "lose", "late", "sweep", "again"]), st.integers(0, 9)
    ),
    max_size=40,
)


@dataclass
class World:
    """Executions of one group as SQL would have them, and what became of each."""

    groups: Groups
    store: Store
    limit: int
    overlap: Overlap = Overlap.QUEUE
    pending: list[str] = field(default_factory=list)
    live: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    entered: set[str] = field(default_factory=set)
    dropped: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    count: int = 0

    def accept(self) -> str:
        """A row is written; whoever wrote it may die now."""
        self.count += 1
        name = f"{self.count:04d}"
        self.pending.append(name)
        return name

    def enter(self, name: str) -> Answer:
        write = Transaction(name, "story")
        write.set_fields(write.keys.meta, {"status": "running"})
        place = Place(GROUP, int(name), self.limit, self.overlap)
        answer = self.groups.enter(write, place)
        self.entered.add(name)
        if answer is Answer.STARTED:
            assert name in self.pending, f"{name} began twice"
            self.pending.remove(name)
            self.live.append(name)
            self.started.append(name)
        if answer is Answer.FULL:
            self.pending.remove(name)
            self.dropped.append(name)
        return answer

    def end(self, name: str) -> None:
        """The transition that ends an execution; told a second time it changes nothing."""
        version = self.groups.redis.hget(ExecutionKeys.of(name).meta, "version")
        write = Transaction(name, "story")
        write.set_fields(write.keys.meta, {"status": "completed"})
        free(write, GROUP, Message(QUEUE, "next"))
        assert self.store.commit(write, str(version)) is not None
        self.live.remove(name)
        self.ended.append(name)

    def start_next(self) -> None:
        """What the message of a freed slot does."""
        while (name := self.groups.next_in(GROUP)) is not None:
            if self.enter(name) is not Answer.STARTED:
                return

    def sweep(self) -> None:
        """What the sweep does for rows without a place, and for those whose message was lost."""
        for name in list(self.pending):
            if name not in self.groups.waiting_among({name: GROUP}):
                self.enter(name)
        self.start_next()

    def play(self, event: Event) -> None:
        kind, number = event
        match kind:
            case "accept":
                self.enter(self.accept())
            case "late":
                self.accept()
            case "end" if self.live:
                self.end(self.live[number % len(self.live)])
            case "message" if self.groups.redis.rpop(QUEUE) is not None:
                self.start_next()
            case "lose":
                self.groups.redis.rpop(QUEUE)
            case "again" if self.live:
                assert self.enter(self.live[number % len(self.live)]) is Answer.BEGUN
            case "sweep":
                self.sweep()

    def finish(self) -> None:
        """Go on until nothing is left; nobody accepts any more."""
        for _ in range(2 * self.count + 1):
            self.sweep()
            if self.live:
                self.end(self.live[0])


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with connect_redis(redis_url) as client:
        yield client


@dataclass(frozen=True)
class Server:
    """A server, and what speaks with it."""

    redis: Redis
    groups: Groups
    store: Store

    @classmethod
    def of(cls, redis: Redis, script: Script = ENTER) -> "Server":
        return cls(redis, Groups(redis, events_kept=10, script=script), Store(redis, events_kept=10))


@pytest.fixture
def server(redis: Redis) -> Server:
    return Server.of(redis)


def world(server: Server, limit: int, overlap: Overlap = Overlap.QUEUE) -> World:
    """A group that nobody has ever been in."""
    server.redis.flushall()
    server.groups.open()
    return World(server.groups, server.store, limit, overlap)


def no_more_are_live_than_may_be_and_in_order(server: Server, limit: int, events: Sequence[Event]) -> None:
    """Never more than the limit; of those that wait the one accepted first; all of them end."""
    tried, redis = world(server, limit), server.redis
    for event in events:
        before = list(tried.started)
        waiting = [name for name in tried.pending if name in tried.entered]
        tried.play(event)
        assert len(tried.live) <= limit
        assert set(redis.zrange(KEYS.live, 0, -1)) == set(tried.live) == set(tried.groups.holders())
        begun = tried.started[len(before) :]
        overtaken = [name for name in waiting if name in tried.pending and begun and name < max(begun)]
        assert overtaken == [], f"{begun} began before {overtaken}"
    tried.finish()
    assert (tried.pending, tried.live, sorted(tried.ended)) == ([], [], sorted(tried.started))
    assert len(tried.ended) == tried.count
    assert redis.exists(*KEYS) == 0


def what_does_not_wait_is_dropped_only_when_all_slots_are_taken(
    server: Server, limit: int, events: Sequence[Event]
) -> None:
    """Dropped is who comes while as many are live as may be, and nobody else; nobody waits."""
    tried, redis = world(server, limit, Overlap.DROP), server.redis
    for event in events:
        was_full, dropped = len(tried.live) == limit, len(tried.dropped)
        tried.play(event)
        assert len(tried.live) <= limit
        assert redis.zcard(KEYS.waiting) == 0
        if event[0] == "accept":
            assert (len(tried.dropped) > dropped) is was_full
    tried.finish()
    assert len(tried.ended) + len(tried.dropped) == tried.count


thorough = examples(60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@thorough
@given(limit=st.integers(1, 3), events=EVENTS)
def test_no_more_are_live_than_may_be_and_in_order(server: Server, limit: int, events: list[Event]) -> None:
    no_more_are_live_than_may_be_and_in_order(server, limit, events)


@thorough
@given(limit=st.integers(1, 3), events=EVENTS)
def test_what_does_not_wait_is_dropped_only_when_all_slots_are_taken(
    server: Server, limit: int, events: list[Event]
) -> None:
    what_does_not_wait_is_dropped_only_when_all_slots_are_taken(server, limit, events)


Property = Callable[[Server, int, Sequence[Event]], None]

MUTANTS: dict[str, tuple[str, str, Property]] = {
    "one more than may be": ("room <= 0 or", "room < 0 or", no_more_are_live_than_may_be_and_in_order),
    "whoever comes while there is room goes first": (
        " or redis.call('ZRANK', waiting, execution) > 0",
        "",
        no_more_are_live_than_may_be_and_in_order,
    ),
    "who begins takes no slot": (
        "redis.call('ZADD', live, accepted, execution)",
        "",
        no_more_are_live_than_may_be_and_in_order,
    ),
    "who has begun begins again": (
        "if redis.call('HEXISTS', meta, 'version') == 1 then",
        "if false then",
        no_more_are_live_than_may_be_and_in_order,
    ),
    "one too few": (
        "room <= redis.call('ZCARD', waiting)",
        "room - 1 <= redis.call('ZCARD', waiting)",
        what_does_not_wait_is_dropped_only_when_all_slots_are_taken,
    ),
    "who is not to wait waits": (
        "if overlap == 'drop' and not has_place",
        "if false",
        what_does_not_wait_is_dropped_only_when_all_slots_are_taken,
    ),
}


@pytest.mark.parametrize(("original", "replacement", "killer"), MUTANTS.values(), ids=MUTANTS.keys())
def test_a_mutant_of_the_script_dies(redis: Redis, original: str, replacement: str, killer: Property) -> None:
    assert ENTER.text.count(original) == 1
    mutant = Server.of(redis, Script.of(ENTER.text.replace(original, replacement)))

    @settings(hunting, max_examples=300)
    @given(limit=st.integers(1, 3), events=EVENTS)
    def survives(limit: int, events: list[Event]) -> None:
        killer(mutant, limit, events)

    with pytest.raises(AssertionError):
        survives()


def test_before_the_groups_are_counted_nobody_begins(server: Server) -> None:
    tried = world(server, 1)
    server.redis.delete(GROUPS)

    assert tried.enter(tried.accept()) is Answer.UNKNOWN

    assert server.redis.exists(*KEYS) == 0


def test_who_has_a_slot_begins_again_whatever_the_limit(server: Server) -> None:
    tried = world(server, 1)
    tried.enter(tried.accept())
    lost = tried.accept()
    tried.groups.give_places(live={lost: Place(GROUP, 2, None)}, waiting={})

    assert tried.enter(lost) is Answer.STARTED


def test_who_waits_already_is_not_dropped_when_the_workflow_changes_its_mind(server: Server) -> None:
    tried = world(server, 1)
    first, second = tried.accept(), tried.accept()
    assert [tried.enter(name) for name in (first, second)] == [Answer.STARTED, Answer.WAITS]

    tried.overlap = Overlap.DROP
    assert tried.enter(second) is Answer.WAITS
    tried.end(first)

    assert tried.enter(second) is Answer.STARTED


def test_who_has_ended_neither_begins_nor_waits(server: Server) -> None:
    tried = world(server, 1)
    name = tried.accept()
    tried.store.forestall(name)
    server.redis.zadd(KEYS.waiting, {name: 1})

    assert tried.enter(name) is Answer.BEGUN

    assert server.redis.exists(*KEYS) == 0


def test_who_cannot_begin_lets_others_go_first(server: Server) -> None:
    tried = world(server, 1)
    names = [tried.accept() for _ in range(3)]
    assert [tried.enter(name) for name in names] == [Answer.STARTED, Answer.WAITS, Answer.WAITS]

    tried.groups.put_last(GROUP, names[1], accepted_at(clock.now()))
    tried.groups.put_last(GROUP, "somebody else", 1)

    assert server.redis.zrange(KEYS.waiting, 0, -1) == [names[2], names[1]]


def test_executions_count_together_whose_keys_are_the_same() -> None:
    assert group_of(7, "") == "7"
    assert group_of(7, "ada") == group_of(7, "ada") != group_of(7, "bob")
    assert group_of(7, "ada") != group_of(8, "ada")
    assert len(group_of(2**31, "x" * 10_000 + "\ud800")) <= 60
