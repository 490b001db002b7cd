"""Whose turn it is: begins what waits in a concurrency group, and finds slots and places that nobody gave back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from pipelit import clock
from pipelit.engine import census
from pipelit.engine.census import Member
from pipelit.engine.groups import Groups, Overlap, accepted_at
from pipelit.engine.rounds import Round
from pipelit.engine.store import batched
from pipelit.extensions import AWAY, db
from pipelit.models import WorkflowExecution

log = structlog.get_logger(__name__)

GRACE = timedelta(seconds=5)
"""How long an accepted execution may be without a place before somebody else finds it one."""

AT_ONCE = 200
"""Executions begun in one go."""

LOOKED_AT = 2_000
"""Executions compared with SQL in one sweep."""


@dataclass(frozen=True, slots=True)
class Turns:
    """All of it is harmless when done twice, or by two processes at once.

    `start` begins an execution from its row, `call` has somebody begin more of a group.
    """

    groups: Groups
    start: Callable[[WorkflowExecution], bool]
    call: Callable[[str], object]

    def start_next(self, group: str, most: int = AT_ONCE) -> int:
        """Begin those that wait in front while there is room; how many began. Beyond `most` somebody else is called."""
        begun = 0
        tried: set[str] = set()
        while (following := self.groups.next_in(group)) is not None and following not in tried:
            if begun >= most:
                self.call(group)
                break
            tried.add(following)
            begun += self._start(group, following)
        db.session.rollback()
        return begun

    def sweep(self, now: datetime, *, at_once: int = LOOKED_AT) -> int:
        """Take back slots of what has ended, find places for what has none, and begin what may begin.

        Of what is live, and of what waits, some are looked at with each sweep, the oldest first. So a sweep takes as
        long with a hundred thousand that wait as with a few.
        """
        if not self.groups.are_counted():
            census.take(self.groups)
        # Those with a slot first: whoever has one by now has a row by the time that SQL is asked.
        holders = self.groups.holders()
        for execution_id in holders.keys() - census.live_among(holders):
            self.groups.leave(holders[execution_id], execution_id)
        members = self._next_members(at_once)
        lacking = [member for member in members if member.execution_id not in holders]
        self._find_places(lacking, accepted_at(now - GRACE))
        begun = 0
        for group in self._with_room(lacking):
            begun += self.start_next(group, max(0, AT_ONCE - begun))
        if begun:
            log.info("started_late", executions=begun)
        return begun

    def _next_members(self, count: int) -> list[Member]:
        ids = Round(self.groups.redis, "groups", WorkflowExecution.created_at).next_ids(census.IS_MEMBER, count)
        db.session.rollback()
        return [
            member
            for some in batched(ids, census.AT_ONCE)
            for member in census.members(WorkflowExecution.execution_id.in_(some))
        ]

    def _start(self, group: str, execution_id: str) -> bool:
        db.session.rollback()
        row = db.session.get(WorkflowExecution, execution_id, populate_existing=True)
        if row is None or row.status != "pending":
            self.groups.give_up_place(group, execution_id)
            return False
        try:
            return self.start(row)
        except AWAY:
            raise
        except Exception:  # Whatever is wrong with it, those behind it shall not suffer.
            log.exception("start_postponed", execution_id=execution_id)
            db.session.rollback()
            self.groups.put_last(group, execution_id, accepted_at(clock.now()))
            return False

    def _find_places(self, lacking: Sequence[Member], before: int) -> None:
        """Give those their slot or place who should have one and do not: whoever was to do it is gone."""
        early = [member for member in lacking if member.place.accepted < before]
        waiting = self.groups.waiting_among(
            {member.execution_id: member.place.group for member in early if not member.has_begun}
        )
        lost = [member for member in early if member.execution_id not in waiting]
        unknown = self.groups.unknown_of([member.execution_id for member in lost])
        lost = [member for member in lost if member.execution_id in unknown]
        queued = [member for member in lost if not member.has_begun and member.place.overlap != Overlap.DROP]
        self.groups.give_places(
            live={member.execution_id: member.place for member in lost if member.has_begun},
            waiting={member.execution_id: member.place for member in queued},
        )
        for member in lost:
            if not member.has_begun and member.place.overlap == Overlap.DROP:
                self._start(member.place.group, member.execution_id)

    def _with_room(self, lacking: Sequence[Member]) -> list[str]:
        """The groups in which somebody waits and may begin, or may make others end."""
        waiting = {member.place.group: member.place for member in lacking if not member.has_begun}
        live = self.groups.live_in(list(waiting))
        return [
            group
            for group, place in waiting.items()
            if place.limit is None or live[group] < place.limit or place.overlap == Overlap.CANCEL_PREVIOUS
        ]
