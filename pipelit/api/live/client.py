"""One WebSocket client: who it is, what it asks for, and when it is time to part."""

import time
from collections.abc import Callable
from typing import Any

import structlog
from simple_websocket import ConnectionClosed
from wsproto.events import CloseConnection
from wsproto.utilities import LocalProtocolError

from pipelit.api.errors import OUTAGES
from pipelit.api.live.frames import message_frame
from pipelit.api.live.hub import Hub
from pipelit.api.live.limits import Limits
from pipelit.api.live.messages import Authenticate, Message, Pong, Subscribe, Unsubscribe, read
from pipelit.api.live.outbox import Outbox, OutboxSocket
from pipelit.api.live.subscription import Subscription
from pipelit.errors import Conflict, Invalid, PipelitError, Unauthorized, Unavailable
from pipelit.models import UserProfile
from pipelit.services import watching

log = structlog.get_logger(__name__)

POLICY = 1008
BROKEN = 1011
RESTART = 1012
TOO_BUSY = 1013
UNAUTHORIZED = 4401

SLICE = 0.25
"""Seconds after which a handler that waits for its client's socket looks whether it is to stop."""


class TooManySubscriptions(Conflict):
    code, title = "too_many_subscriptions", "Too many subscriptions"


class Parting(Exception):
    """The connection is to be closed, with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Client:
    """Lives in the handler of its connection. `authenticate` raises `Unauthorized`; it is asked again now and then."""

    # `Any`: the WebSocket library brings no types.
    def __init__(self, ws: Any, hub: Hub, limits: Limits, authenticate: Callable[[str], UserProfile]) -> None:
        self._ws = ws
        self._hub = hub
        self._limits = limits
        self._authenticate = authenticate
        self._outbox = Outbox(ws.sock, limits, ws.event.set)
        self._token = ""
        self._subscriptions: dict[str, Subscription] = {}
        self._parting: Parting | None = None
        self._unanswered = 0
        ws.sock = OutboxSocket(ws.sock, self._outbox)

    def part(self, code: int, reason: str) -> None:
        """Have the handler close the connection soon. May be called from anywhere."""
        self._parting = self._parting or Parting(code, reason)
        self._ws.event.set()

    def serve(self, token: str | None) -> None:
        """Everything from the first message to the last."""
        try:
            self._sign_in(token)
            self._attend()
        except Parting as parting:
            self._say_goodbye(parting)
        except ConnectionClosed:
            pass
        except OUTAGES as error:
            log.warning("live_client_sent_away", error=str(error))
            self._say_goodbye(Parting(TOO_BUSY, "The database or the broker does not answer right now."))
        except Exception:
            # An exception that left the handler would be answered with HTTP, in the middle of the WebSocket.
            log.exception("live_client_crashed")
            self._say_goodbye(Parting(BROKEN, "Something went wrong here."))
        finally:
            for channel in list(self._subscriptions):
                self._unsubscribe(channel)
            self._outbox.close()

    def _sign_in(self, token: str | None) -> None:
        until = time.monotonic() + self._limits.authentication
        while token is None:
            self._ws.event.wait(max(until - time.monotonic(), 0))
            text = self._ws.receive(timeout=0)
            self._part_if_told()
            if text is not None:
                token = self._token_in(text)
            elif time.monotonic() > until:
                raise Parting(UNAUTHORIZED, "Send an API key first.")
        self._token = token
        self._check_key()

    def _token_in(self, text: str | bytes) -> str:
        try:
            message = read(text)
        except Invalid:
            message = None
        if not isinstance(message, Authenticate):
            raise Parting(UNAUTHORIZED, "Send an API key first.")
        return message.token

    def _check_key(self) -> UserProfile:
        try:
            return self._authenticate(self._token)
        except Unauthorized as error:
            raise Parting(UNAUTHORIZED, error.detail) from None

    def _attend(self) -> None:
        ping_at = time.monotonic() + self._limits.ping
        while True:
            self._wait(ping_at - time.monotonic())
            self._part_if_told()
            if time.monotonic() >= ping_at:
                self._ping()
                ping_at = time.monotonic() + self._limits.ping
            self._read()
            self._replay()

    def _wait(self, seconds: float) -> None:
        """Until there is something to read, to send or to do."""
        if self._outbox.blocked_since is None:
            self._ws.event.wait(max(seconds, 0))
            return
        self._outbox.wait_until_writable(min(max(seconds, 0), SLICE))
        self._outbox.flush(retry=True)

    def _part_if_told(self) -> None:
        if self._parting is not None:
            raise self._parting
        if self._outbox.is_overrun or self._outbox.blocked_for() > self._limits.blocked:
            raise Parting(TOO_BUSY, "You read too slowly.")
        if len(self._ws.input_buffer) > self._limits.unread_messages:
            raise Parting(POLICY, "You send too much.")

    def _ping(self) -> None:
        if self._unanswered >= self._limits.missed_pongs:
            raise Parting(POLICY, "You do not answer.")
        self._unanswered += 1
        try:
            self._check_rights(self._check_key())
        except OUTAGES as error:
            # A database that is away for a moment is no reason to send everybody away; the next ping asks again.
            log.warning("key_not_checked", error=str(error))
        self._send({"type": "ping"})

    def _check_rights(self, user: UserProfile) -> None:
        """End the subscriptions to what is not there for this user any more: deleted, renamed, or no longer shared."""
        for channel in list(self._subscriptions):
            try:
                watching.check(channel, user)
            except PipelitError as error:
                self._unsubscribe(channel)
                self._refuse(error, channel)

    def _read(self) -> None:
        # The library clears its event only in here: what was told before that is looked at below, what is told after it
        # sets the event again.
        while (text := self._ws.receive(timeout=0)) is not None:
            self._unanswered = 0
            channel: str | None = None
            try:
                message = read(text)
                channel = getattr(message, "channel", None)
                self._obey(message)
            except PipelitError as error:
                self._refuse(error, channel)
            except OUTAGES:
                self._refuse(Unavailable("The database or the broker does not answer right now."), channel)
            self._part_if_told()
        self._part_if_told()

    def _obey(self, message: Message) -> None:
        match message:
            case Subscribe(channel=channel, after=after):
                self._subscribe(channel, after)
            case Unsubscribe(channel=channel):
                self._unsubscribe(channel)
                self._send({"type": "unsubscribed", "channel": channel})
            case Authenticate() | Pong():
                pass

    def _subscribe(self, channel: str, after: int | None) -> None:
        if channel not in self._subscriptions and len(self._subscriptions) >= self._limits.subscriptions:
            raise TooManySubscriptions(f"One connection has at most {self._limits.subscriptions} subscriptions.")
        watching.check(channel, self._check_key())
        last = watching.counted(channel)
        is_behind = last is not None and after is not None
        last = after if is_behind else last
        self._unsubscribe(channel)
        room = self._hub.enter(channel)
        if not self._hub.wait_for(room, self._limits.confirmation):
            self._hub.leave(channel)
            raise Unavailable("Events cannot be watched right now. Try again in a moment.")
        subscription = Subscription(channel, self._outbox, self._ws.event.set, last=last, is_behind=is_behind)
        self._subscriptions[channel] = subscription
        # The confirmation stands before the first event, and no event comes between the two.
        self._outbox.put(message_frame({"type": "subscribed", "channel": channel}))
        self._hub.add(channel, subscription)
        self._outbox.flush()

    def _unsubscribe(self, channel: str) -> None:
        subscription = self._subscriptions.pop(channel, None)
        if subscription is not None:
            self._hub.remove(channel, subscription)
            self._hub.leave(channel)

    def _replay(self) -> None:
        for subscription in self._subscriptions.values():
            if subscription.is_behind:
                subscription.replay(watching.missed(subscription.channel), self._has_room)
                self._outbox.flush()

    def _has_room(self) -> bool:
        """Wait for room in the outbox; False when it is time to part instead."""
        while not self._outbox.has_room:
            self._outbox.flush()
            if self._outbox.blocked_since is not None:
                self._wait(SLICE)
            if self._parting or self._outbox.is_gone or self._outbox.blocked_for() > self._limits.blocked:
                return False
        return True

    def _refuse(self, error: PipelitError, channel: str | None) -> None:
        about = {} if channel is None else {"channel": channel}
        self._send({"type": "error", "code": error.code, "detail": error.detail, **about})

    def _send(self, message: dict[str, object]) -> None:
        self._outbox.put(message_frame(message))
        self._outbox.flush()

    def _say_goodbye(self, parting: Parting) -> None:
        """Tell the client why, and give it a moment to answer, so that the reason arrives before the end does."""
        try:
            last = self._ws.ws.send(CloseConnection(parting.code, parting.reason))
        except LocalProtocolError:
            # The client has closed meanwhile.
            return
        self._outbox.close_with(last)
        at_restart, otherwise = self._limits.farewell_at_restart, self._limits.farewell
        until = time.monotonic() + (at_restart if parting.code == RESTART else otherwise)
        self._outbox.flush(retry=True)
        while self._ws.connected and not self._outbox.is_gone and (left := until - time.monotonic()) > 0:
            self._wait(left)
            self._ws.event.clear()
            self._ws.input_buffer.clear()
