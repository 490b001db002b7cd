"""The numbered events of an execution, live or ended."""

import json
import zlib
from collections.abc import Iterator
from itertools import islice

from pipelit.engine import broadcast
from pipelit.engine.runtime import engine
from pipelit.extensions import db
from pipelit.models import ExecutionEvents


def after(execution_id: str, seq: int, limit: int = 1000) -> list[dict[str, object]]:
    """Up to `limit` events that follow `seq`, in order: `{"seq", "type", "data", "timestamp"}`."""
    return list(islice(_after(execution_id, seq), limit))


def _after(execution_id: str, seq: int) -> Iterator[dict[str, object]]:
    live = False
    for event in broadcast.missed(engine().redis, execution_id, seq):
        live = True
        yield {"seq": event.seq, **json.loads(event.body)}
    if live:
        return
    # The stream goes when the row is written, in this order: what is in neither is not there at all.
    kept = db.session.get(ExecutionEvents, execution_id, populate_existing=True)
    if kept is not None:
        yield from (event for event in json.loads(zlib.decompress(kept.events)) if event["seq"] > seq)
