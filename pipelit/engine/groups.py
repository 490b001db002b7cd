"""Concurrency groups: how many executions of a workflow, or of one of its keys, may be live at once, and who is next.

A group is kept as two sorted sets on the server, of those that are live and of those that wait, in the order in which
they were accepted. An execution takes its slot in the very script that begins it, and gives it back in the transition
that ends it, so that no slot belongs to nobody. The rows in SQL say the same: what is lost is counted anew from them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Self

from redis import Redis

from pipelit.engine.dispatch import Message
from pipelit.engine.keys import ExecutionKeys
from pipelit.engine.line import Line, Script
from pipelit.engine.store import Transaction, batched

GROUPS = "pipelit:groups"
"""A hash: the group of each live execution that is in one; the field without a name says that they were counted."""

COUNTED = ""

AT_ONCE = 1_000
"""Executions that are asked about in one go."""

ENTER = Script.joined("enter", "commit")


class Overlap(StrEnum):
    """What becomes of an execution whose group is full."""

    QUEUE = "queue"
    DROP = "drop"
    CANCEL_PREVIOUS = "cancel_previous"


class Answer(StrEnum):
    """What became of an execution that wanted to begin."""

    STARTED = "started"
    BEGUN = "begun"
    UNKNOWN = "unknown"
    FULL = "full"
    WAITS = "waits"


REFUSALS = {answer.value: answer for answer in Answer if answer is not Answer.STARTED}


class GroupKeys(NamedTuple):
    """The keys of one group."""

    live: str
    waiting: str

    @classmethod
    def of(cls, group: str) -> Self:
        return cls(f"pipelit:group:{group}:live", f"pipelit:group:{group}:waiting")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an execution stands: its group, the group's limit, and when it was accepted, in µs since the epoch."""

    group: str
    accepted: int
    limit: int | None
    overlap: str = Overlap.QUEUE


def group_of(workflow_id: int, key: str) -> str:
    """The name of the group of a workflow's executions that have this serial key."""
    if not key:
        return str(workflow_id)
    return f"{workflow_id}:{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()[:32]}"


def accepted_at(moment: datetime) -> int:
    """A time as the sorted sets have it; they keep whole numbers of this size exactly."""
    return round(moment.timestamp() * 1_000_000)


def free(write: Transaction, group: str, follow_on: Message) -> None:
    """Give the slot of an execution back with the transition that ends it, and have the next one begun if one waits."""
    keys = GroupKeys.of(group)
    write.call("ZREM", keys.live, write.execution_id)
    write.call("HDEL", GROUPS, write.execution_id)
    write.call("IF", keys.waiting, "LPUSH", follow_on.key, follow_on.payload)


class Groups:
    """Reads and writes the groups; shared by the threads of a process."""

    def __init__(self, redis: Redis, *, events_kept: int, script: Script = ENTER) -> None:
        self.redis = redis
        self.events_kept = events_kept
        self.script = script
        self._line = Line(redis)

    def enter(self, transaction: Transaction, place: Place) -> Answer:
        """Begin an execution with this transaction, if it is its turn."""
        keys, group = transaction.keys, GroupKeys.of(place.group)
        limit = -1 if place.limit is None else place.limit
        about = (place.group, transaction.execution_id, place.accepted, limit, place.overlap)
        args = ("", self.events_kept, *transaction.words, *about)
        answer = self._line.call(self.script, (keys.meta, keys.events, *group, GROUPS), args)
        # What begins is answered by commit.lua, with a version.
        return REFUSALS.get(answer, Answer.STARTED)

    def next_in(self, group: str) -> str | None:
        """Who waits in front."""
        found: Any = self.redis.zrange(GroupKeys.of(group).waiting, 0, 0)
        return str(found[0]) if found else None

    def older_than_newest(self, group: str, count: int) -> tuple[list[str], list[str]]:
        """Of all in a group but the newest `count`: those that are live, and those that wait, oldest first."""
        keys = GroupKeys.of(group)
        pipeline = self.redis.pipeline()
        pipeline.zrange(keys.live, 0, -1, withscores=True)
        pipeline.zrange(keys.waiting, 0, -1, withscores=True)
        live, waiting = (dict(found) for found in pipeline.execute())
        order = sorted({**live, **waiting}.items(), key=lambda pair: (pair[1], pair[0]))
        older = [name for name, _ in order[: max(0, len(order) - count)]]
        return [name for name in older if name in live], [name for name in older if name not in live]

    def leave(self, group: str, execution_id: str) -> None:
        """Take out an execution that is over, or that nobody knows."""
        keys = GroupKeys.of(group)
        pipeline = self.redis.pipeline()
        pipeline.zrem(keys.live, execution_id)
        pipeline.zrem(keys.waiting, execution_id)
        pipeline.hdel(GROUPS, execution_id)
        pipeline.execute()

    def give_up_place(self, group: str, execution_id: str) -> None:
        """Let an execution wait no more."""
        self.redis.zrem(GroupKeys.of(group).waiting, execution_id)

    def put_last(self, group: str, execution_id: str, at: int) -> None:
        """Let those behind an execution that cannot begin go first."""
        self.redis.zadd(GroupKeys.of(group).waiting, {execution_id: at}, xx=True)

    def holders(self) -> dict[str, str]:
        """The group of each execution that has a slot."""
        found: Any = self.redis.hgetall(GROUPS)
        return {str(name): str(group) for name, group in found.items() if name != COUNTED}

    def live_in(self, groups: Sequence[str]) -> dict[str, int]:
        """How many executions of each group are live."""
        pipeline = self.redis.pipeline(transaction=False)
        for group in groups:
            pipeline.zcard(GroupKeys.of(group).live)
        return dict(zip(groups, pipeline.execute(), strict=True))

    def waiting_among(self, groups: Mapping[str, str]) -> set[str]:
        """Those of the executions, given with their groups, that wait there. However many wait, nobody else is read."""
        found: set[str] = set()
        for some in batched(groups.items(), AT_ONCE):
            pipeline = self.redis.pipeline(transaction=False)
            for execution_id, group in some:
                pipeline.zscore(GroupKeys.of(group).waiting, execution_id)
            found |= {name for (name, _), score in zip(some, pipeline.execute(), strict=True) if score is not None}
        return found

    def unknown_of(self, execution_ids: Sequence[str]) -> set[str]:
        """Those of these executions of which the server knows neither that they are live nor that they have ended."""
        found: set[str] = set()
        for some in batched(execution_ids, AT_ONCE):
            pipeline = self.redis.pipeline(transaction=False)
            for execution_id in some:
                pipeline.hexists(ExecutionKeys.of(execution_id).meta, "version")
            found |= {name for name, is_known in zip(some, pipeline.execute(), strict=True) if not is_known}
        return found

    def give_places(self, *, live: Mapping[str, Place], waiting: Mapping[str, Place]) -> None:
        """Give these their slots, whoever else has one, and their places among those that wait."""
        for some in batched(live.items(), AT_ONCE):
            pipeline = self.redis.pipeline(transaction=False)
            for name, place in some:
                pipeline.zadd(GroupKeys.of(place.group).live, {name: place.accepted})
                pipeline.hset(GROUPS, name, place.group)
            pipeline.execute()
        for some in batched(waiting.items(), AT_ONCE):
            pipeline = self.redis.pipeline(transaction=False)
            for name, place in some:
                pipeline.zadd(GroupKeys.of(place.group).waiting, {name: place.accepted}, nx=True)
            pipeline.execute()

    def are_counted(self) -> bool:
        """Whether the groups are known; after a loss they are not."""
        return bool(self.redis.hexists(GROUPS, COUNTED))

    def open(self) -> None:
        """Note that all groups are counted: from now on executions begin."""
        self.redis.hset(GROUPS, COUNTED, "1")
