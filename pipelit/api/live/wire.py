"""What the server was asked to send to a process, and whether it is still there."""

import time
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

PING_SECONDS = 15.0
SILENCE_SECONDS = 45.0
"""After this long without an answer to a ping the connection counts as lost, though nobody closed it."""


class Wire:
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
