"""The way into a concurrency group: begins what may begin, and does what the workflow wants when its group is full."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from pipelit import clock
from pipelit.engine import census
from pipelit.engine.core.events import Failure
from pipelit.engine.core.graph import Plan
from pipelit.engine.core.state import ExecutionStatus
from pipelit.engine.dispatch import Dispatcher
from pipelit.engine.groups import Answer, GroupKeys, Groups, Overlap, Place
from pipelit.engine.keys import writer_flag
from pipelit.engine.narrator import Narrator
from pipelit.engine.store import Store, Transaction
from pipelit.errors import Dropped, Superseded

log = structlog.get_logger(__name__)

COUNTED_IN_PASSING = 1_000
"""Executions that are counted by whoever wants to begin one, when the groups are not known."""

DROPPED = Failure(Dropped.code, "As many executions as may run at once were running, and the workflow lets none wait.")
SUPERSEDED = Failure(Superseded.code, "A newer execution took the place of this one.")


@dataclass(frozen=True, slots=True)
class Guest:
    """An execution that wants to begin; `transaction` would begin it."""

    transaction: Transaction
    place: Place
    plan: Plan
    slug: str
    reply_to: str | None = None


@dataclass(frozen=True, slots=True)
class Entrance:
    """Shared by the threads of a process. `cancel` ends a live execution; False if it could not."""

    store: Store
    groups: Groups
    dispatcher: Dispatcher
    cancel: Callable[[str, Failure], bool]

    def admit(self, guest: Guest) -> bool:
        """Begin an execution. False if it waits, or has been ended instead. Asks SQL when the groups are not known."""
        while True:
            match self.groups.enter(guest.transaction, guest.place):
                case Answer.STARTED:
                    return True
                case Answer.UNKNOWN if not census.is_short(COUNTED_IN_PASSING):
                    # The sweep counts them, and finds a place for this one; somebody waits for our answer.
                    return False
                case Answer.UNKNOWN:
                    log.info("groups_counted")
                    census.take(self.groups)
                case Answer.FULL:
                    self.refuse(guest.transaction.execution_id, guest, DROPPED)
                    return False
                case Answer.WAITS if guest.place.overlap == Overlap.CANCEL_PREVIOUS and self._makes_room(guest):
                    continue
                case _:
                    return False

    def refuse(self, execution_id: str, guest: Guest, failure: Failure) -> bool:
        """End an execution that has not begun, of the same workflow as the guest. False if it has."""
        write = Transaction(execution_id, guest.slug)
        known: dict[str, str] = {"status": ExecutionStatus.CANCELLED}
        if guest.reply_to is not None and execution_id == guest.transaction.execution_id:
            known["reply_to"] = guest.reply_to
        write.set_fields(write.keys.meta, known)
        write.call("ZREM", GroupKeys.of(guest.place.group).waiting, execution_id)
        Narrator(write, guest.plan, clock.precise_ms()).ended(ExecutionStatus.CANCELLED, None, None, failure, None)
        drain = self.dispatcher.drain(is_urgent=True)
        write.call("ONCE", writer_flag(is_urgent=True), 1_000, "LPUSH", drain.key, drain.payload)
        return self.store.commit(write, "") is not None

    def _makes_room(self, guest: Guest) -> bool:
        """End all of the group but the newest, as many as may be live; the guest may be among those that are ended.

        False if there was nothing that could be ended: whatever ends later begins who waits.
        """
        group = guest.place.group
        live, waiting = self.groups.older_than_newest(group, guest.place.limit or 0)
        for execution_id in waiting:
            if not self.refuse(execution_id, guest, SUPERSEDED):
                self.groups.give_up_place(group, execution_id)
        ended = [execution_id for execution_id in live if self.cancel(execution_id, SUPERSEDED)]
        return bool(waiting or ended)
