"""Outputs too large for the working state: kept in a row, referred to by `{"$blob": id}`."""

import json
import re
import uuid
import zlib
from collections.abc import Mapping

from pipelit.engine.core.codec import dump_json
from pipelit.engine.core.graph import Json
from pipelit.errors import OutputInvalid
from pipelit.extensions import db, transaction
from pipelit.models.execution import Blob

MARK = "$blob"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LARGEST = 64 * 1024 * 1024
"""Bytes of JSON that one step may leave at all."""


def put(execution_id: str, outputs: Mapping[str, Json], limit: int) -> str:
    """Store the large ports of a step; returns the JSON of its outputs with references in their place.

    Needs an application context. Raises `OutputInvalid` for what is too large even so.
    """
    kept: dict[str, Json] = {}
    for port, value in outputs.items():
        text = dump_json(value)
        if len(text) > LARGEST:
            raise OutputInvalid(f"The output '{port}' has {len(text)} bytes of JSON; the limit is {LARGEST}.")
        kept[port] = value if len(text) <= limit // 2 else {MARK: _store(execution_id, text), "bytes": len(text)}
    return dump_json(kept)


def _store(execution_id: str, text: str) -> str:
    blob_id = str(uuid.uuid4())
    with transaction() as session:
        session.add(Blob(id=blob_id, execution_id=execution_id, content=zlib.compress(text.encode())))
    return blob_id


def read(text: str, execution_id: str) -> Json:
    """JSON text as a value, references replaced by what they refer to. Needs an application context if it holds any.

    Only blobs of the execution itself are opened: a reference can be forged by whoever writes an output.
    """
    value: Json = json.loads(text)
    return _opened(value, execution_id) if f'"{MARK}"' in text else value


def _opened(value: Json, execution_id: str) -> Json:
    match value:
        case {"$blob": str(blob_id)} if UUID.fullmatch(blob_id):
            row = db.session.get(Blob, blob_id)
            if row is None or row.execution_id != execution_id:
                return value
            loaded: Json = json.loads(zlib.decompress(row.content))
            return loaded
        case dict():
            return {name: _opened(item, execution_id) for name, item in value.items()}
        case list():
            return [_opened(item, execution_id) for item in value]
        case _:
            return value
