"""Notices that the server has lost what it had, or came back with less, and has the lost executions rebuilt.

Which run of the server was looked through stands on the server itself: if it does not, all is lost; if it is another
run, the server was started anew, perhaps from an older copy. Either way every live execution is looked at, in the order
of their making and some at a time, by whichever tick comes. Every ten minutes they are looked at in any case.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from redis import Redis
from sqlalchemy import select, tuple_

from pipelit.engine.keys import EPOCH
from pipelit.engine.rebuild import Rebuilder
from pipelit.engine.store import Store
from pipelit.extensions import AWAY, db
from pipelit.models.execution import WorkflowExecution

log = structlog.get_logger(__name__)

BATCH = 100
SLICE_SECONDS = 0.5
"""How long one tick searches; the next goes on where it stopped."""

BEGUN = ("running", "interrupted")
LOCK = "pipelit:epoch:lock"
LOCK_SECONDS = 10
"""How long nobody else searches when the one that did has died; two at once do no harm."""


@dataclass(frozen=True, slots=True)
class Search:
    """A search as it stands on the server: of which of its runs, when that was noticed, and how far it has come."""

    server: str | None
    noticed: str | None
    cursor: str | None
    is_thorough: bool


@dataclass(frozen=True, slots=True)
class Losses:
    """`announced_after`: in so many seconds every worker has said which steps it runs that nothing is known of."""

    redis: Redis
    store: Store
    rebuilder: Rebuilder
    announced_after: float

    def notice(self, at_ms: int) -> bool:
        """Whether this is another run of the server than the last time, or its data are gone: begin a search."""
        known: Any = self.redis.hget(EPOCH, "server")
        current = self._server()
        if known == current:
            return False
        epoch = {"server": current, "noticed": at_ms, "is_thorough": 1, "cursor": ""}
        if known is None:
            epoch["lost"] = at_ms
            log.warning("server_data_lost")
        self.redis.hset(EPOCH, mapping={name: str(value) for name, value in epoch.items()})
        return True

    def search_anew(self) -> None:
        """Begin a search for executions that were lost without anybody's noticing."""
        self.redis.hsetnx(EPOCH, "cursor", "")

    def is_searching(self, at_ms: int) -> bool:
        """Whether a search is under way, and workers have had the time to announce what they run."""
        search = self._current()
        return search.cursor is not None and self._is_announced(search, at_ms)

    def is_older(self, row: WorkflowExecution) -> bool:
        """Whether an execution was accepted before the server lost its data."""
        lost: Any = self.redis.hget(EPOCH, "lost")
        return lost is not None and row.created_at.timestamp() * 1000 < int(lost)

    def restore(self, row: WorkflowExecution, at_ms: int) -> bool:
        """Restore an execution that was accepted before a loss. False if it is there, or may be announced yet."""
        search = self._current()
        return self._is_announced(search, at_ms) and self._rebuild(row, search)

    def search(self) -> int:
        """Look at live executions for as long as a tick may, and restore those that are lost; how many were.

        What the journal holds should have been written before. Needs an application context.
        """
        lock = self.redis.lock(LOCK, timeout=LOCK_SECONDS, blocking=False)
        if not lock.acquire():
            return 0
        restored = 0
        until = time.monotonic() + SLICE_SECONDS
        try:
            search = self._current()
            while search.cursor is not None and time.monotonic() < until:
                batch = _batch(search.cursor)
                restored += self._look_at(batch, search)
                if not self._move_on(search, batch):
                    log.info("search_overtaken")
                    break
                search = self._current()
        finally:
            if lock.owned():
                lock.release()
        if restored:
            log.warning("executions_restored", executions=restored)
        return restored

    def _look_at(self, batch: Sequence[WorkflowExecution], search: Search) -> int:
        lost = self.store.is_lost([row.execution_id for row in batch]) if batch else []
        chosen = [row for row, is_lost in zip(batch, lost, strict=True) if is_lost or search.is_thorough]
        restored = sum(self._restore(row, search) for row in chosen)
        db.session.rollback()
        return restored

    def _restore(self, row: WorkflowExecution, search: Search) -> bool:
        try:
            db.session.refresh(row)
            return row.is_live and self._rebuild(row, search)
        except AWAY:
            raise  # A server is away, and nothing is known of any of them; the next tick looks again.
        except Exception:  # What is wrong with one execution must not keep the others from being restored.
            log.exception("execution_not_restored", execution_id=row.execution_id)
            db.session.rollback()
            return False

    def _rebuild(self, row: WorkflowExecution, search: Search) -> bool:
        """Restore an execution, unless it was lost in another loss than the one that is searched for.

        Of that nobody has announced anything yet, and the search for it begins with the next tick.
        """
        return self.rebuilder.restore(row, lambda: self._is_of_now(search))

    def _current(self) -> Search:
        found: Any = self.redis.hmget(EPOCH, "server", "noticed", "cursor", "is_thorough")
        server, noticed, cursor, is_thorough = found
        return Search(server, noticed, cursor, is_thorough == "1")

    def _is_announced(self, search: Search, at_ms: int) -> bool:
        return at_ms >= int(search.noticed or 0) + round(self.announced_after * 1000)

    def _is_of_now(self, search: Search) -> bool:
        """Whether the server has lost nothing since the search began."""
        known = self._current()
        is_same = (known.server, known.noticed) == (search.server, search.noticed)
        return is_same and search.server == self._server()

    def _server(self) -> str:
        """The present run of the server."""
        return str(self.redis.info("server").get("run_id", ""))

    def _move_on(self, search: Search, batch: Sequence[WorkflowExecution]) -> bool:
        """Note how far the search has come. False if another one has begun meanwhile, and stands where it stands."""

        def move(pipeline: Any) -> Any:
            if self._current() != search:
                return False
            pipeline.multi()
            if len(batch) < BATCH:
                pipeline.hdel(EPOCH, "cursor", "is_thorough")
            else:
                last = batch[-1]
                pipeline.hset(EPOCH, "cursor", f"{last.created_at.timestamp():.6f} {last.execution_id}")
            return True

        return bool(self.redis.transaction(move, EPOCH, value_from_callable=True))


def _batch(cursor: str) -> Sequence[WorkflowExecution]:
    """The live executions that were made after the one at which the cursor stands."""
    db.session.rollback()
    order = (WorkflowExecution.created_at, WorkflowExecution.execution_id)
    query = select(WorkflowExecution).where(WorkflowExecution.status.in_(BEGUN)).order_by(*order).limit(BATCH)
    if cursor:
        made, execution_id = cursor.split(" ")
        query = query.where(tuple_(*order) > (datetime.fromtimestamp(float(made), UTC), execution_id))
    return db.session.scalars(query).all()
