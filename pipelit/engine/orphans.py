"""Blobs that nothing refers to: the pages of loops that are over, what an attempt left that was never committed."""

import re
from collections.abc import Iterable, Iterator

from sqlalchemy import bindparam, func, select
from sqlalchemy.orm import Session

from pipelit.engine import blobs
from pipelit.engine.store import batched
from pipelit.models.execution import Blob, ExecutionLog, StepCheckpoint

REFERENCE = re.compile(r'"\$blob": ?"([0-9a-f-]{36})"')

LONGEST_LIST = 256
"""Bytes: no longer is a row that only says where its pages are."""

AT_ONCE = 500

# Asked about every batch of executions that end, nearly all of which have none.
_OWNER = blobs.TABLE.c.execution_id
WITH_BLOBS = select(_OWNER).where(_OWNER.in_(bindparam("ended", expanding=True))).distinct()


def remove(session: Session, ended: Iterable[str]) -> None:
    """Remove the orphans of executions that have ended, all their logs being written."""
    for execution_id in session.connection().scalars(WITH_BLOBS, {"ended": list(ended)}).all():
        there = set(session.scalars(select(Blob.id).where(Blob.execution_id == execution_id)))
        orphans = there - _referenced(session, execution_id)
        for some in batched(sorted(orphans), AT_ONCE):
            session.execute(blobs.TABLE.delete().where(blobs.TABLE.c.id.in_(some)))


def _referenced(session: Session, execution_id: str) -> set[str]:
    kept = {found for text in _texts(session, execution_id) for found in REFERENCE.findall(text)}
    lists = select(Blob.id, Blob.content).where(
        Blob.execution_id == execution_id, func.length(Blob.content) <= LONGEST_LIST
    )
    for blob_id, content in session.execute(lists).all():
        if blob_id in kept and content.startswith(blobs.IN_PAGES):
            pages = blobs.pages_of(content)
            kept |= {*pages, *_inside(session, pages)}
    return kept


def _texts(session: Session, execution_id: str) -> Iterator[str]:
    """What may refer to a blob: outputs and details of the logs, and the items of loops, which a retry goes back to.

    A final output is the output of a step.
    """
    for column in (ExecutionLog.output, ExecutionLog.details, StepCheckpoint.content):
        mine = column.class_.execution_id == execution_id
        found = select(column).where(mine, column.contains(f'"{blobs.MARK}"'))
        yield from (text for text in session.scalars(found) if text is not None)


def _inside(session: Session, pages: list[str]) -> Iterator[str]:
    """What the entries of pages refer to."""
    for some in batched(pages, AT_ONCE):
        for content in session.scalars(select(Blob.content).where(Blob.id.in_(some))):
            yield from REFERENCE.findall(blobs.unpacked(content))
