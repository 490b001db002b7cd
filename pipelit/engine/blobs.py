"""Values too large for the working state: kept in rows, referred to by `{"$blob": id}`.

A row holds one value, or says where the pages of a list are: the long lists of loops are kept page by page (pages.py).
"""

import json
import re
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar, cast

import structlog
from sqlalchemy import Connection, Table, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, PendingRollbackError

from pipelit.engine.core.codec import dump_json
from pipelit.engine.core.graph import Json
from pipelit.engine.rows import insert_once
from pipelit.engine.store import PAUSE_SECONDS
from pipelit.errors import OutputTooLarge
from pipelit.extensions import WRITE, db, settings
from pipelit.models.execution import Blob

log = structlog.get_logger(__name__)

T = TypeVar("T")

MARK = "$blob"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
IN_PAGES = b"pages:"
"""How the content of a row begins that only says where its pages are; what zlib writes begins otherwise."""

AT_ONCE = 100
"""Rows of one statement."""

TABLE = cast(Table, Blob.__table__)


def put(execution_id: str, outputs: Mapping[str, Json], limit: int) -> str:
    """Store the ports of a step that are larger than half of `limit`; returns its outputs with references instead.

    Needs an application context.
    """
    kept: dict[str, Json] = {}
    texts: dict[str, str] = {}
    for port, value in outputs.items():
        text = dump_json(value)
        if len(text) <= limit // 2:
            kept[port] = value
        else:
            texts[blob_id := str(uuid.uuid4())] = text
            kept[port] = {MARK: blob_id, "bytes": len(text)}
    store(execution_id, {blob_id: packed(text) for blob_id, text in texts.items()})
    return dump_json(kept)


def store(execution_id: str, contents: Mapping[str, bytes]) -> None:
    """Write rows by their ids, unless they are there already. They are committed when this returns.

    On a connection of its own: whoever is in the middle of reading is not disturbed.
    """
    if not contents:
        return
    rows = [{"id": blob_id, "execution_id": execution_id, "content": content} for blob_id, content in contents.items()]
    with db.engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        insert_once(connection, TABLE, rows)


def load(execution_id: str, ids: Sequence[str]) -> dict[str, bytes]:
    """The contents of those of the rows that are there, and are this execution's."""
    with db.engine.connect() as connection:
        return contents(connection, execution_id, ids)


def patiently(action: Callable[[], T]) -> T:
    """Read or write as soon as the database is there: a step that has run is not run again because of its trouble.

    What the session was at is given up with each try that fails, so that the next one has a transaction of its own.
    """
    while True:
        try:
            return action()
        except (DBAPIError, PendingRollbackError) as error:
            if db.session.registry.has():
                with suppress(DBAPIError):
                    db.session.rollback()
            if isinstance(error, IntegrityError | DataError):
                raise  # That is about the values, and does not pass.
            log.warning("database_unreachable", error=type(error).__name__)
            time.sleep(PAUSE_SECONDS)


def packed(text: str) -> bytes:
    """A text as the content of a row."""
    return zlib.compress(text.encode())


def unpacked(content: bytes) -> str:
    """Read what `packed` wrote."""
    return zlib.decompress(content).decode()


def page_id(name: str, number: int) -> str:
    """The id of a page of the list with this name, which is a UUID."""
    return str(uuid.uuid5(uuid.UUID(name), str(number)))


def listed(name: str, count: int, elsewhere: Mapping[int, str]) -> bytes:
    """The content of a row that stands for a list in `count` pages; some have ids that do not follow from its name."""
    return IN_PAGES + dump_json([name, count, {str(number): blob_id for number, blob_id in elsewhere.items()}]).encode()


def pages_of(content: bytes) -> list[str]:
    """The ids of the pages that `listed` wrote down."""
    name, count, elsewhere = json.loads(content.removeprefix(IN_PAGES))
    return [elsewhere.get(str(number)) or page_id(name, number) for number in range(count)]


def read(text: str, execution_id: str) -> Json:
    """JSON text as a value, references replaced by what they refer to. Needs an application context if it holds any.

    Only blobs of the execution itself are opened: a reference can be forged by whoever writes an output. Raises
    `OutputTooLarge` for what no output may be.
    """
    value: Json = json.loads(text)
    return _Opening(execution_id).opened(value) if f'"{MARK}"' in text else value


def read_or_refer(text: str, execution_id: str) -> Json:
    """The same, but what is too large stays a reference."""
    try:
        return read(text, execution_id)
    except OutputTooLarge:
        value: Json = json.loads(text)
        return value


class _Opening:
    """Replaces references, and counts the bytes that come of them."""

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        self.limit = settings().output_bytes
        self.size = 0

    def opened(self, value: Json) -> Json:
        match value:
            case {"$blob": str(blob_id)} if UUID.fullmatch(blob_id):
                content = self._load([blob_id]).get(blob_id)
                if content is None:
                    return value
                return self._list(content) if content.startswith(IN_PAGES) else self._value(content)
            case dict():
                return {name: self.opened(item) for name, item in value.items()}
            case list():
                return [self.opened(item) for item in value]
            case _:
                return value

    def _value(self, content: bytes) -> Json:
        value: Json = json.loads(self._text(content))
        return value

    def _list(self, content: bytes) -> Json:
        """A list in pages; what stands in it may again be a reference."""
        items: list[Json] = []
        ids = pages_of(content)
        for start in range(0, len(ids), AT_ONCE):
            chunk = ids[start : start + AT_ONCE]
            found = self._load(chunk)
            for each in chunk:
                text = self._text(found[each])
                lines = (json.loads(line) for line in text.split("\n"))
                items += map(self.opened, lines) if f'"{MARK}"' in text else lines
        return items

    def _text(self, content: bytes) -> str:
        text = unpacked(content)
        self.size += len(text)
        if self.size > self.limit:
            raise OutputTooLarge(
                f"The value has more than {self.limit} bytes of JSON, which is the limit (PIPELIT_OUTPUT_BYTES)."
            )
        return text

    def _load(self, ids: Sequence[str]) -> dict[str, bytes]:
        return contents(db.session.connection(), self.execution_id, ids)


def contents(connection: Connection, execution_id: str, ids: Iterable[str]) -> dict[str, bytes]:
    """The same over a connection that is there already: one that writes must not wait for another of its own."""
    columns = select(TABLE.c.id, TABLE.c.content)
    found = connection.execute(columns.where(TABLE.c.id.in_(ids), TABLE.c.execution_id == execution_id))
    return {row.id: row.content for row in found}
