"""One channel as one client gets it: in order, without gaps and without repeats, whatever happens to the connection."""

import threading
from collections.abc import Callable, Iterable

from pipelit.api.live.frames import event_frame
from pipelit.api.live.outbox import Outbox
from pipelit.api.live.rooms import Batch
from pipelit.engine.broadcast import LiveEvent

Missed = Callable[[int], Iterable[LiveEvent]]


class Subscription:
    """`last` is the number of the last event that the client has, None on a channel whose events are not counted.
    `is_behind`: there may be some after it already.

    While the subscription is behind, live events are only counted, and the client's handler sends what `missed` has
    instead; it is over when that has reached the newest event counted. Events without a number are lost meanwhile.
    """

    def __init__(
        self, channel: str, outbox: Outbox, wake: Callable[[], None], *, last: int | None, is_behind: bool
    ) -> None:
        self.channel = channel
        self.is_behind = is_behind
        self._outbox = outbox
        self._wake = wake
        self._last = last
        self._newest = 0
        self._lock = threading.Lock()

    def take(self, batch: Batch) -> Outbox | None:
        """Pass events on, unless the client has them or lacks one before them."""
        if self._last is None:
            self._outbox.put(batch.frames, len(batch.events))
            return self._outbox
        with self._lock:
            if batch.span is not None and batch.span[0] == self._last + 1 and not self.is_behind:
                self._last = self._newest = batch.span[1]
                self._outbox.put(batch.frames, len(batch.events))
                return self._outbox
            for event in batch.events:
                if self._is_next(self._last, event.seq):
                    self._outbox.put(event_frame(self.channel, event))
        return self._outbox

    def catch_up(self) -> None:
        """Look for what was missed."""
        with self._lock:
            self._fall_behind()

    def replay(self, missed: Missed, has_room: Callable[[], bool]) -> None:
        """Send what was missed, for as long as `has_room` says that there is room for it."""
        while self.is_behind:
            announced, last = self._newest, self._last or 0
            for event in missed(last):
                if event.seq is None or event.seq <= last:
                    continue
                if not has_room():
                    return
                self._last = last = event.seq
                self._outbox.put(event_frame(self.channel, event))
            with self._lock:
                # What was announced before we looked and is kept nowhere will not come, however often we look.
                if last >= self._newest or self._newest == announced:
                    self.is_behind = False

    def _is_next(self, last: int, seq: int | None) -> bool:
        if seq is None:
            return not self.is_behind
        self._newest = max(self._newest, seq)
        if self.is_behind or seq <= last:
            return False
        if seq > last + 1:
            self._fall_behind()
            return False
        self._last = seq
        return True

    def _fall_behind(self) -> None:
        if self._last is not None and not self.is_behind:
            self.is_behind = True
            self._wake()
