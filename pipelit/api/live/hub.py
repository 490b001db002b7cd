"""The one connection of a process to the channels of events, and who in the process listens to which.

One thread owns the connection. Others only write down what they want and ring; the ring is a message on a channel of
the hub's own, because that is what the thread is waiting for anyway.
"""

import queue
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Protocol

import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from pipelit.api.live.frames import event_frame
from pipelit.api.live.outbox import Outbox
from pipelit.engine import broadcast
from pipelit.engine.broadcast import LiveEvent

log = structlog.get_logger(__name__)

PING_SECONDS = 15.0
SILENCE_SECONDS = 45.0
"""After this long without an answer to a ping the connection counts as lost, though nobody closed it."""

LONGEST_PAUSE = 1.0
"""Seconds between two attempts to reach the server, at most."""

CONFIRMATION_SECONDS = 2.0
BREATH = 100
"""So many sockets are written to before other work gets a turn."""


class Delivery:
    """An event on its way to everybody in a room."""

    def __init__(self, channel: str, event: LiveEvent) -> None:
        self.channel = channel
        self.event = event

    @cached_property
    def frame(self) -> bytes:
        return event_frame(self.channel, self.event)


class Member(Protocol):
    """Whoever is in a room. Called by the hub's thread, which must never wait for anybody."""

    def take(self, delivery: Delivery) -> Outbox | None:
        """Receive an event; answer the outbox it is now in."""

    def catch_up(self) -> None:
        """Events may have been missed: the connection was lost for a while."""


class Room:
    """A channel that somebody here listens to. It is `open` once the server has confirmed it."""

    def __init__(self) -> None:
        self.members: set[Member] = set()
        self.guests = 0
        self.open = threading.Event()


class Listener:
    """The events of some channels, one after the other, for one who waits for them."""

    def __init__(self) -> None:
        self._events: queue.Queue[tuple[str, LiveEvent]] = queue.Queue()

    def take(self, delivery: Delivery) -> None:
        self._events.put((delivery.channel, delivery.event))

    def catch_up(self) -> None:
        """What was lost stays lost: who waits looks at the database in the end."""

    def next(self, timeout: float) -> tuple[str, LiveEvent] | None:
        """The next event and its channel; None after `timeout` seconds without one."""
        try:
            return self._events.get(timeout=max(timeout, 0))
        except queue.Empty:
            return None


class Hub:
    """Rooms by channel. Reconnects for ever; what is in a room then catches up by itself."""

    def __init__(self, redis: Redis, *, pause: float) -> None:
        self._redis = redis
        self._pause = pause
        self._rooms: dict[str, Room] = {}
        self._lock = threading.Lock()
        self._control = f"{broadcast.PREFIX}hub:{uuid.uuid4()}"
        self._is_rung = False
        self._is_stopped = False
        self._pending: dict[Outbox, None] = {}
        self._due = 0.0
        self._thread: threading.Thread | None = None

    @contextmanager
    def listen(self, *channels: str) -> Iterator[Listener]:
        """Listen to channels for the length of a block: from its first line on, no event is missed.

        When the server does not answer, the block runs all the same and hears nothing.
        """
        listener = Listener()
        rooms = [self.enter(channel) for channel in channels]
        try:
            for channel, room in zip(channels, rooms, strict=True):
                self.add(channel, listener)
                room.open.wait(CONFIRMATION_SECONDS)
            yield listener
        finally:
            for channel in channels:
                self.remove(channel, listener)
                self.leave(channel)

    def enter(self, channel: str) -> Room:
        """Keep a channel's room from now on until `leave`, without being a member yet."""
        with self._lock:
            room = self._rooms.setdefault(channel, Room())
            room.guests += 1
            is_new = room.guests == 1
            self._start()
        if is_new:
            self._ring()
        return room

    def leave(self, channel: str) -> None:
        """The opposite of `enter`."""
        with self._lock:
            room = self._rooms[channel]
            room.guests -= 1
            if room.guests:
                return
            del self._rooms[channel]
        self._ring()

    def add(self, channel: str, member: Member) -> None:
        """Have a member get the events of a room that was entered."""
        with self._lock:
            self._rooms[channel].members.add(member)

    def remove(self, channel: str, member: Member) -> None:
        """The opposite of `add`."""
        with self._lock:
            self._rooms[channel].members.discard(member)

    def stop(self) -> None:
        """End the thread."""
        self._is_stopped = True
        self._ring()
        if self._thread is not None:
            self._thread.join(timeout=SILENCE_SECONDS)

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="live-hub", daemon=True)
            self._thread.start()

    def _ring(self) -> None:
        """Have the thread compare what is wanted with what is subscribed."""
        if self._is_rung:
            return
        self._is_rung = True
        try:
            self._redis.publish(self._control, "")
        except RedisError:
            # The thread has lost its connection too, and subscribes to everything wanted when it has a new one.
            self._is_rung = False

    def _run(self) -> None:
        pause = 0.05
        while not self._is_stopped:
            connected_at = time.monotonic()
            try:
                self._listen()
            except (RedisError, OSError) as error:
                log.warning("live_connection_lost", error=str(error))
            except Exception:
                # Nobody would notice a dead hub: every client would stay connected and hear nothing.
                log.exception("live_hub_crashed")
            pause = 0.05 if time.monotonic() - connected_at > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
            if not self._is_stopped:
                time.sleep(pause)

    def _listen(self) -> None:
        with _own_client(self._redis) as client, PubSub(client.connection_pool) as subscription:
            wire = _Wire(subscription)
            with self._lock:
                for room in self._rooms.values():
                    room.open.clear()
            wire.subscribe([self._control])
            while not self._is_stopped:
                message = subscription.get_message(timeout=self._patience())
                wire.check_life(is_heard=message is not None)
                if message is not None:
                    self._receive(message, wire)
                self._flush_due()

    def _receive(self, message: dict[str, Any], wire: "_Wire") -> None:
        channel = message["channel"]
        match message["type"]:
            case "message" if channel == self._control:
                self._is_rung = False
                self._meet_wishes(wire)
            case "message":
                self._deliver(channel.removeprefix(broadcast.PREFIX), broadcast.parse(message["data"]))
            case "subscribe" if channel == self._control:
                # Wishes that were written down while nobody could ring.
                self._is_rung = False
                self._meet_wishes(wire)
            case "subscribe" if wire.is_confirmed(channel):
                self._open(channel.removeprefix(broadcast.PREFIX))

    def _meet_wishes(self, wire: "_Wire") -> None:
        with self._lock:
            wanted = {broadcast.PREFIX + channel for channel in self._rooms}
        wire.meet(wanted | {self._control})
        with self._lock:
            for channel, room in self._rooms.items():
                # Left and entered again before we heard of either: nothing was asked for, so nothing is confirmed.
                if wire.is_open(broadcast.PREFIX + channel):
                    room.open.set()

    def _open(self, channel: str) -> None:
        with self._lock:
            room = self._rooms.get(channel)
            if room is None:
                return
            room.open.set()
            members = list(room.members)
        for member in members:
            member.catch_up()

    def _deliver(self, channel: str, event: LiveEvent) -> None:
        with self._lock:
            room = self._rooms.get(channel)
            members = list(room.members) if room is not None else []
        delivery = Delivery(channel, event)
        now = time.monotonic()
        for index, member in enumerate(members, 1):
            outbox = member.take(delivery)
            if outbox is not None:
                self._send(outbox, now)
            if index % BREATH == 0:
                time.sleep(0)

    def _send(self, outbox: Outbox, now: float) -> None:
        """At once if the client has heard nothing for a while, else together with what comes within the pause."""
        if now - outbox.flushed_at >= self._pause and outbox not in self._pending:
            outbox.flush()
            return
        if not self._pending:
            self._due = now + self._pause
        self._pending[outbox] = None

    def _patience(self) -> float:
        """Seconds to wait for a message."""
        if not self._pending:
            return PING_SECONDS / 3
        return max(self._due - time.monotonic(), 0.001)

    def _flush_due(self) -> None:
        if not self._pending or time.monotonic() < self._due:
            return
        due, self._pending = self._pending, {}
        for index, outbox in enumerate(due, 1):
            outbox.flush()
            if index % BREATH == 0:
                time.sleep(0)


class _Wire:
    """What the server was asked to send us, and whether it is still there."""

    # `Any`: half of the methods of `PubSub` bring no types.
    def __init__(self, subscription: Any) -> None:
        self._subscription = subscription
        self._subscribed: set[str] = set()
        self._unconfirmed: dict[str, int] = {}
        self._heard_at = self._pinged_at = time.monotonic()

    def meet(self, wanted: set[str]) -> None:
        """Be subscribed to exactly these channels."""
        if gone := self._subscribed - wanted:
            self._subscription.unsubscribe(*gone)
            self._subscribed -= gone
        if new := wanted - self._subscribed:
            self.subscribe(sorted(new))

    def subscribe(self, channels: list[str]) -> None:
        for channel in channels:
            self._unconfirmed[channel] = self._unconfirmed.get(channel, 0) + 1
        self._subscribed.update(channels)
        self._subscription.subscribe(*channels)

    def is_confirmed(self, channel: str) -> bool:
        """Count a confirmation; whether it belongs to the last time that we asked for the channel."""
        left = self._unconfirmed.pop(channel, 1) - 1
        if left:
            self._unconfirmed[channel] = left
        return not left

    def is_open(self, channel: str) -> bool:
        """Whether everything published to the channel reaches us."""
        return channel in self._subscribed and channel not in self._unconfirmed

    def check_life(self, *, is_heard: bool) -> None:
        """Ping now and then. Raises when the server has been silent for too long."""
        now = time.monotonic()
        if is_heard:
            self._heard_at = now
        if now - self._heard_at > SILENCE_SECONDS:
            raise RedisConnectionError("The server does not answer.")
        if now - self._pinged_at > PING_SECONDS:
            self._pinged_at = now
            self._subscription.ping()


@contextmanager
def _own_client(redis: Redis) -> Iterator[Redis]:
    """A client for the same server whose errors reach us at once: it is ours to reconnect and to subscribe again."""
    options = redis.connection_pool.connection_kwargs | {"retry": Retry(NoBackoff(), 0), "health_check_interval": 0}
    pool = type(redis.connection_pool)(connection_class=redis.connection_pool.connection_class, **options)
    client = Redis(connection_pool=pool)
    try:
        yield client
    finally:
        client.close()
        pool.disconnect()
