"""Channels that somebody in this process listens to, and what goes through them."""

import queue
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

from pipelit.api.live.frames import event_frame
from pipelit.api.live.outbox import Outbox
from pipelit.engine.broadcast import LiveEvent


class Batch:
    """Events on their way to everybody in a room, encoded once."""

    def __init__(self, channel: str, events: Sequence[LiveEvent]) -> None:
        self.channel = channel
        self.events = events

    @cached_property
    def frames(self) -> bytes:
        return b"".join(event_frame(self.channel, event) for event in self.events)

    @cached_property
    def span(self) -> tuple[int, int] | None:
        """The first and the last number, if all the numbers between them are here and nothing else is."""
        first = self.events[0].seq
        if first is None or any(event.seq != first + index for index, event in enumerate(self.events)):
            return None
        return first, first + len(self.events) - 1


class Member(Protocol):
    """A client in a room. Called by the hub's thread, which must never wait for anybody."""

    def take(self, batch: Batch) -> Outbox | None:
        """Receive events; answer the outbox they are in now."""

    def catch_up(self) -> None:
        """Events may have been missed: the connection was lost for a while."""


class Room:
    """A channel that somebody here listens to. It is `open` once the server has confirmed it.

    Listeners hear each event at once. To members, what follows an event within the hub's pause goes in one batch.
    """

    def __init__(self) -> None:
        self.members: set[Member] = set()
        self.listeners: set[Listener] = set()
        self.guests = 0
        self.open = threading.Event()
        self.held: list[LiveEvent] = []
        self.held_bytes = 0
        self.passed_at = 0.0


class Listener:
    """The events of some channels, one after the other, for one who waits for them."""

    def __init__(self) -> None:
        self._events: queue.Queue[tuple[str, LiveEvent]] = queue.Queue()

    def take(self, channel: str, event: LiveEvent) -> None:
        self._events.put((channel, event))

    def next(self, timeout: float) -> tuple[str, LiveEvent] | None:
        """The next event and its channel; None after `timeout` seconds without one."""
        try:
            return self._events.get(timeout=max(timeout, 0))
        except queue.Empty:
            return None
