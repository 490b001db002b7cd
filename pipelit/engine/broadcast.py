"""Events to whoever watches: pub/sub channels for the present, the execution's stream for what was missed.

A message on a Redis channel is `SEQ\\nJSON`; `SEQ` is empty for events that are not numbered. The JSON is
`{"type", "data", "timestamp"}`. The numbered events of an execution are also in its stream, under the id `SEQ-0`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis import Redis

from pipelit.engine.core.graph import Json

PREFIX = "pipelit:live:"

_ENCODER = json.JSONEncoder(separators=(",", ":"), default=str)
"""Made once: with settings of one's own, `json.dumps` makes an encoder for each text."""


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """`body` is the JSON text; `seq` numbers the events of one execution from 1, without gaps."""

    seq: int | None
    body: str


def workflow_channel(slug: str) -> str:
    return f"workflow:{slug}"


def execution_channel(execution_id: str) -> str:
    return f"execution:{execution_id}"


def stream_key(execution_id: str) -> str:
    return f"pipelit:x:{execution_id}:events"


def event_body(kind: str, content: Mapping[str, Json], at: datetime) -> str:
    """An event's JSON text."""
    timestamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return _ENCODER.encode({"type": kind, "data": dict(content), "timestamp": timestamp})


def publish(redis: Redis, channel: str, kind: str, content: Mapping[str, Json], at: datetime) -> None:
    """Tell the watchers of a channel something that is not numbered."""
    redis.publish(PREFIX + channel, "\n" + event_body(kind, content, at))


def parse(message: str) -> LiveEvent:
    """Read what came over a Redis channel."""
    seq, _, body = message.partition("\n")
    return LiveEvent(int(seq) if seq else None, body)


def missed(redis: Redis, execution_id: str, after: int, count: int = 1000) -> Iterator[LiveEvent]:
    """The kept events of a live execution after `after`, in order, read in portions of `count`."""
    start = after + 1
    while True:
        entries: Any = redis.xrange(stream_key(execution_id), f"{start}-0", "+", count)
        if not entries:
            return
        events = numbered(entries)
        start = (events[-1].seq or 0) + 1
        yield from events


def numbered(entries: Sequence[tuple[str, Mapping[str, str]]]) -> list[LiveEvent]:
    """Entries of an execution's stream as events."""
    return [LiveEvent(int(entry.partition("-")[0]), fields["e"]) for entry, fields in entries]


def newest(redis: Redis, execution_id: str) -> int:
    """The number of the newest event of a live execution, 0 if there is none."""
    entries = redis.xrevrange(stream_key(execution_id), count=1)
    return int(str(entries[0][0]).partition("-")[0]) if entries else 0
