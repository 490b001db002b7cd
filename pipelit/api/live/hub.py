"""The one connection of a process to the channels of events, and who in the process listens to which.

One thread owns the connection. Others only write down what they want and ring; the ring is an empty message on a
channel of the hub's own, because that is what the thread is waiting for anyway. Events that come over that channel are
replies: each is meant for the one listener in this process who waits for the end of its execution.
"""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.exceptions import RedisError
from redis.retry import Retry

from pipelit.api.live.outbox import Outbox
from pipelit.api.live.rooms import Batch, Listener, Member, Room
from pipelit.api.live.wire import PING_SECONDS, SILENCE_SECONDS, Wire
from pipelit.engine import broadcast
from pipelit.engine.broadcast import LiveEvent

log = structlog.get_logger(__name__)

K = TypeVar("K")
V = TypeVar("V")

LONGEST_PAUSE = 1.0
"""Seconds between two attempts to reach the server, at most."""

CONFIRMATION_SECONDS = 2.0
SLICE = 0.25
"""Seconds after which who waits for a room looks whether there is any hope."""

LARGEST_BATCH = 256 * 1024
BREATH = 100
"""So many sockets are written to before other work gets a turn."""


class Hub:
    """Rooms by channel. Reconnects for ever; what is in a room then catches up by itself."""

    def __init__(self, redis: Redis, *, pause: float) -> None:
        self._redis = redis
        self._pause = pause
        self._rooms: dict[str, Room] = {}
        self._lock = threading.Lock()
        self.address = f"{broadcast.PREFIX}hub:{uuid.uuid4()}"
        self._is_reachable = threading.Event()
        self._awaited: dict[str, Listener] = {}
        self._is_rung = False
        self._is_lost = False
        self._is_stopped = False
        self._held: dict[str, Room] = {}
        self._pending: dict[Outbox, None] = {}
        self._due = 0.0
        self._thread: threading.Thread | None = None

    @contextmanager
    def await_reply(self, execution_id: str) -> Iterator[Listener]:
        """Hear what is sent to `address` about an execution, for the length of a block: nothing is subscribed for it.

        When the server does not answer, the block runs all the same and hears nothing.
        """
        with self._lock:
            listener = self._awaited[execution_id] = Listener()
            self._start()
        try:
            self._wait(self._is_reachable, CONFIRMATION_SECONDS)
            yield listener
        finally:
            with self._lock:
                del self._awaited[execution_id]

    @contextmanager
    def listen(self, *channels: str, listener: Listener | None = None) -> Iterator[Listener]:
        """Listen to channels for the length of a block: from its first line on, no event is missed.

        When the server does not answer, the block runs all the same and hears nothing. Whoever listens already to
        something else can hear both.
        """
        listener = listener or Listener()
        rooms = [self.enter(channel) for channel in channels]
        try:
            for room in rooms:
                room.listeners.add(listener)
                self.wait_for(room, CONFIRMATION_SECONDS)
            yield listener
        finally:
            for channel, room in zip(channels, rooms, strict=True):
                room.listeners.discard(listener)
                self.leave(channel)

    def wait_for(self, room: Room, seconds: float) -> bool:
        """Wait until a room is open; False if it takes longer, and soon if there is no connection to the server."""
        return self._wait(room.open, seconds)

    def _wait(self, opened: threading.Event, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not opened.is_set() and not opened.wait(SLICE):
            if self._is_lost or time.monotonic() > until:
                return False
        return True

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
            self._redis.publish(self.address, "")
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
                if not self._is_lost:
                    log.warning("live_connection_lost", error=str(error))
                self._is_lost = True
            except Exception:
                # Nobody would notice a dead hub: every client would stay connected and hear nothing.
                log.exception("live_hub_crashed")
            pause = 0.05 if time.monotonic() - connected_at > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
            if not self._is_stopped:
                time.sleep(pause)

    def _listen(self) -> None:
        with _own_client(self._redis) as client, PubSub(client.connection_pool) as subscription:
            wire = Wire(subscription)
            self._is_reachable.clear()
            with self._lock:
                for room in self._rooms.values():
                    room.open.clear()
            wire.subscribe([self.address])
            while not self._is_stopped:
                message = subscription.get_message(timeout=self._patience())
                wire.check_life(is_heard=message is not None)
                if message is not None:
                    self._receive(message, wire)
                self._flush_due()

    def _receive(self, message: dict[str, Any], wire: "Wire") -> None:
        channel = message["channel"]
        match message["type"]:
            case "message" if channel == self.address and message["data"]:
                self._reply(broadcast.parse(message["data"]))
            case "message" if channel == self.address:
                self._is_rung = False
                self._meet_wishes(wire)
            case "message":
                self._deliver(channel.removeprefix(broadcast.PREFIX), broadcast.parse(message["data"]))
            case "subscribe" if channel == self.address:
                # Wishes that were written down while nobody could ring.
                self._is_lost = self._is_rung = False
                self._is_reachable.set()
                self._meet_wishes(wire)
            case "subscribe" if wire.is_confirmed(channel):
                self._open(channel.removeprefix(broadcast.PREFIX))

    def _meet_wishes(self, wire: "Wire") -> None:
        with self._lock:
            wanted = {broadcast.PREFIX + channel for channel in self._rooms}
        wire.meet(wanted | {self.address})
        with self._lock:
            for channel, room in self._rooms.items():
                # Left and entered again before we heard of either: nothing was asked for, so nothing is confirmed.
                if wire.is_open(broadcast.PREFIX + channel):
                    room.open.set()

    def _reply(self, event: LiveEvent) -> None:
        execution_id = json.loads(event.body)["data"]["execution_id"]
        with self._lock:
            listener = self._awaited.get(execution_id)
        if listener is not None:
            listener.take(broadcast.execution_channel(execution_id), event)

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
        if room is None:
            return
        for listener in list(room.listeners):
            listener.take(channel, event)
        if not room.members:
            return
        room.held.append(event)
        room.held_bytes += len(event.body)
        if time.monotonic() - room.passed_at >= self._pause or room.held_bytes > LARGEST_BATCH:
            self._pass_on(channel, room)
        else:
            self._hold(self._held, channel, room)

    def _pass_on(self, channel: str, room: Room) -> None:
        """Give a room's members what was held for them."""
        now = room.passed_at = time.monotonic()
        self._held.pop(channel, None)
        batch, room.held, room.held_bytes = Batch(channel, room.held), [], 0
        with self._lock:
            members = list(room.members)
        for index, member in enumerate(members, 1):
            outbox = member.take(batch)
            if outbox is not None:
                self._send(outbox, now)
            if index % BREATH == 0:
                time.sleep(0)

    def _send(self, outbox: Outbox, now: float) -> None:
        """At once, unless the client has just been sent something from another room."""
        if now - outbox.flushed_at >= self._pause / 2 and outbox not in self._pending:
            outbox.flush()
        else:
            self._hold(self._pending, outbox, None)

    def _hold(self, held: dict[K, V], key: K, value: V) -> None:
        """Put something off until the pause is over."""
        if not self._held and not self._pending:
            self._due = time.monotonic() + self._pause
        held[key] = value

    def _patience(self) -> float:
        """Seconds to wait for a message."""
        if not self._held and not self._pending:
            return PING_SECONDS / 3
        return max(self._due - time.monotonic(), 0.001)

    def _flush_due(self) -> None:
        """Give on what was put off."""
        if not (self._held or self._pending) or time.monotonic() < self._due:
            return
        due, self._pending = self._pending, {}
        for outbox in due:
            outbox.flush()
        held, self._held = self._held, {}
        for channel, room in held.items():
            self._pass_on(channel, room)


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
