"""The working state of live executions in Redis: read whole, written only by the scripts beside this module."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import structlog
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pipelit.engine import broadcast
from pipelit.engine.core import codec
from pipelit.engine.core.state import ExecutionStatus, State, StepId
from pipelit.engine.keys import DEADLINES, ExecutionKeys, TaskId, claim_field, death_key
from pipelit.engine.line import Line, Script, Word

log = structlog.get_logger(__name__)

T = TypeVar("T")

PAUSE_SECONDS = 0.5
"""Between two tries while the server is away."""

CHUNK = 500
"""Pairs in one command: Lua's unpack takes some thousands of words at most."""

COMMIT, CLAIM, FORESTALL = (Script.named(name) for name in ("commit", "claim", "forestall"))

TOMBSTONE_SECONDS = 300
"""How long an ended execution is remembered, so that a late start of it does nothing."""


DEATH_SECONDS = 600
"""How long it is remembered how a process died: somebody takes over long before."""


class Meta(NamedTuple):
    """What is true of a live execution as a whole; it also travels with every message."""

    plan_hash: str
    workflow_id: int
    slug: str
    started_ms: float
    placement: str
    durability: str = "async"
    group: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state at one version; a transition made from it is applied only while that version is current."""

    version: str
    state: State


@dataclass(frozen=True, slots=True)
class Claim:
    """The lease was taken: the attempt is ours to run. `values` are the data fields asked for."""

    snapshot: Snapshot
    values: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Taken:
    """Somebody claimed this attempt before; `owner` is the process that did."""

    owner: str


def batched(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Consecutive tuples of `size` items, the last one shorter (`itertools.batched` of Python 3.12)."""
    rest = iter(items)
    while chunk := tuple(islice(rest, size)):
        yield chunk


def patiently(action: Callable[[], T]) -> T:
    """Do something as soon as the server is there and takes it; a try whose answer was lost may have had its effect."""
    while True:
        try:
            return action()
        except (RedisConnectionError, RedisTimeoutError, OutOfMemoryError, ReadOnlyError) as error:
            log.warning("broker_unreachable", error=type(error).__name__)
            time.sleep(PAUSE_SECONDS)


class Transaction:
    """Commands for the commit script, in the order they are to run."""

    def __init__(self, execution_id: str, slug: str) -> None:
        self.execution_id = execution_id
        self.keys = ExecutionKeys.of(execution_id)
        self.channels = (
            broadcast.PREFIX + broadcast.workflow_channel(slug),
            broadcast.PREFIX + broadcast.execution_channel(execution_id),
        )
        self.words: list[Word] = []

    def call(self, *command: Word) -> None:
        """Add a command; of what takes a list, at most `CHUNK` pairs at once, or the script could not unpack it."""
        self.words.append(len(command))
        self.words.extend(command)

    def set_fields(self, key: str, fields: Mapping[str, Any]) -> None:
        for chunk in batched(fields.items(), CHUNK):
            self.call("HSET", key, *(word for pair in chunk for word in pair))

    def delete_fields(self, key: str, fields: Iterable[str]) -> None:
        for chunk in batched(fields, CHUNK):
            self.call("HDEL", key, *chunk)

    def event(self, body: str) -> None:
        """Number an event, keep it and tell both channels."""
        self.call("EVENT", body, *self.channels)

    def last_event(self, body: str) -> None:
        """The same, and tell whoever started the execution to hear of its end."""
        self.call("LAST", body, *self.channels)

    def watch(self, member: str, at_ms: float) -> None:
        """Have somebody look at a step or an execution if nothing was heard of it by then."""
        self.call("ZADD", DEADLINES, math.ceil(at_ms), member)

    def unwatch(self, *members: str) -> None:
        for chunk in batched(members, CHUNK):
            self.call("ZREM", DEADLINES, *chunk)


class Standing(Enum):
    """What the working state says of an attempt that a worker runs."""

    AWAITED = "awaited"
    UNKNOWN = "unknown"
    """The server has lost the claim, or all that it knew of the execution: both will be restored."""
    OVER = "over"


class Store:
    """Reads and writes the working state; shared by the threads of a process."""

    def __init__(self, redis: Redis, *, events_kept: int) -> None:
        self.redis = redis
        self.events_kept = events_kept
        self._line = Line(redis)

    def commit(self, transaction: Transaction, version: str) -> str | None:
        """Apply all of the transaction and return the new version; nothing and None if `version` is not current."""
        keys = transaction.keys
        args = [version, self.events_kept, *transaction.words]
        following = self._line.call(COMMIT, (keys.meta, keys.events), args)
        return None if following is None else str(following)

    def claim(
        self, task: TaskId, *, claim: str, lease_until: int, event: str, channels: Sequence[str], fields: Sequence[str]
    ) -> Claim | Taken | None:
        """Take the lease of an attempt; None if the attempt is not current any more."""
        keys = ExecutionKeys.of(task.execution_id)
        args: list[Word] = [
            str(task.step),
            f'["ready",{task.attempt},',
            claim,
            task.attempt,
            str(task),
            lease_until,
            self.events_kept,
            event,
            *channels,
            *fields,
        ]
        answer = self._line.call(CLAIM, (*keys, DEADLINES), args)
        match answer:
            case ["gone"]:
                return None
            case ["taken", owner]:
                return Taken(owner)
            case _:
                _, version, steps, values = answer
                pairs = dict(zip(steps[::2], steps[1::2], strict=True))
                return Claim(Snapshot(version, _running(pairs)), dict(zip(fields, values, strict=True)))

    def load(self, execution_id: str) -> tuple[Snapshot, Meta] | None:
        """The state of a live execution; None if there is none, or it has ended."""
        keys = ExecutionKeys.of(execution_id)
        pipeline = self.redis.pipeline()
        pipeline.hmget(keys.meta, "version", "status", *Meta._fields)
        pipeline.hgetall(keys.steps)
        (version, status, *kept), steps = pipeline.execute()
        if version is None or status != ExecutionStatus.RUNNING:
            return None
        return Snapshot(version, _running(steps)), _meta(kept)

    def note_death(self, process: str, reason: str) -> None:
        """Keep for a while how a process (`machine/keeper.pid`) died, for whoever takes its step over."""
        self.redis.set(death_key(process), reason, ex=DEATH_SECONDS)

    def death(self, task: TaskId) -> str:
        """How the process that claimed an attempt died; '' if nobody knows."""
        claim = self.owner(task.execution_id, task.step)
        if claim is None:
            return ""
        process, _, _start = claim.split(" ")[1].rpartition("/")
        return str(self.redis.get(death_key(process)) or "")

    def owner(self, execution_id: str, step: StepId) -> str | None:
        """The claim of a step as it was written: `attempt owner`."""
        found: Any = self.redis.hget(ExecutionKeys.of(execution_id).meta, claim_field(step))
        return None if found is None else str(found)

    def claims(self, execution_id: str) -> dict[StepId, str]:
        """The claims that stand in an execution, as they were written, by step."""
        found: Any = self.redis.hgetall(ExecutionKeys.of(execution_id).meta)
        mark = "claim:"
        return {StepId.parse(name[len(mark) :]): claim for name, claim in found.items() if name.startswith(mark)}

    def values(self, execution_id: str, fields: Sequence[str]) -> dict[str, str | None]:
        """Fields of an execution's data, as stored."""
        if not fields:
            return {}
        found: Any = self.redis.hmget(ExecutionKeys.of(execution_id).data, list(fields))
        return dict(zip(fields, found, strict=True))

    def standings(self, tasks: Sequence[TaskId]) -> list[Standing]:
        """How it stands with attempts that some worker runs."""
        pipeline = self.redis.pipeline(transaction=False)
        for task in tasks:
            keys = ExecutionKeys.of(task.execution_id)
            pipeline.hmget(keys.meta, "status", claim_field(task.step))
            pipeline.hget(keys.steps, str(task.step))
        found = pipeline.execute()
        asked = zip(tasks, found[::2], found[1::2], strict=True)
        return [_standing(task, status, claim, known) for task, (status, claim), known in asked]

    def awaited(self, tasks: Sequence[TaskId]) -> list[bool]:
        """Of attempts that some worker runs, whether it shall go on with them."""
        return [standing is not Standing.OVER for standing in self.standings(tasks)]

    def is_lost(self, execution_ids: Sequence[str]) -> list[bool]:
        """Of each of these executions, whether nothing is known of it: neither that it runs nor that it has ended."""
        pipeline = self.redis.pipeline(transaction=False)
        for execution_id in execution_ids:
            pipeline.hexists(ExecutionKeys.of(execution_id).meta, "version")
        return [not known for known in pipeline.execute()]

    def remove(self, execution_id: str, fields: Sequence[str]) -> None:
        """Remove fields of an execution's data that have been copied to where they are looked for next."""
        self.redis.hdel(ExecutionKeys.of(execution_id).data, *fields)

    def forestall(self, execution_id: str) -> bool:
        """Keep an execution from ever beginning. False if it has begun, be it that it has ended since.

        Who died after this, or was refused by the database, does it again: it is true again.
        """
        return bool(self._line.call(FORESTALL, [ExecutionKeys.of(execution_id).meta], [TOMBSTONE_SECONDS]))

    def forget(self, *execution_ids: str) -> None:
        """Remove what ended executions leave, but for a tombstone of each."""
        pipeline = self.redis.pipeline(transaction=False)
        for execution_id in execution_ids:
            keys = ExecutionKeys.of(execution_id)
            pipeline.delete(keys.steps, keys.data, keys.events)
            pipeline.expire(keys.meta, TOMBSTONE_SECONDS)
        pipeline.execute()


def _meta(kept: Sequence[str | None]) -> Meta:
    plan_hash, workflow_id, slug, started_ms, placement, durability, group = kept
    about = (str(plan_hash), int(workflow_id or 0), str(slug), float(started_ms or 0), str(placement))
    return Meta(*about) if durability is None else Meta(*about, durability, group or "")


def _standing(task: TaskId, status: str | None, claim: str | None, known: str | None) -> Standing:
    if status is None:
        return Standing.UNKNOWN
    if status != ExecutionStatus.RUNNING:
        return Standing.OVER
    if claim is None:
        is_current = known is not None and known.startswith(f'["ready",{task.attempt},')
        return Standing.UNKNOWN if is_current else Standing.OVER
    return Standing.AWAITED if claim.startswith(f"{task.attempt} ") else Standing.OVER


def _running(steps: Mapping[str, str]) -> State:
    known = {StepId.parse(step): codec.decode_step(text) for step, text in steps.items()}
    return State(ExecutionStatus.RUNNING, known)
