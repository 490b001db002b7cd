"""What is on its way to one client: a bounded queue in front of its socket."""

import os
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from gevent import monkey

from pipelit.api.live.limits import Limits

# The socket as the system has it, whether or not gevent took its place: sending on it never yields and never waits.
_plain_socket: type[socket.socket] = monkey.get_original("socket", "socket")


class Outbox:
    """Anybody may `put` and `flush`, neither of which ever waits; only the client's own handler waits until its socket
    takes more. A client that does not keep up is marked, its queue is dropped, and the handler sees it off.
    """

    def __init__(self, sock: socket.socket, limits: Limits, wake: Callable[[], None]) -> None:
        if isinstance(sock, ssl.SSLSocket):
            raise TypeError("TLS ends at the proxy in front of us; it cannot be written around.")
        # A descriptor of our own: if the other one is closed, its number may soon belong to somebody else.
        self._socket = _plain_socket(fileno=os.dup(sock.fileno()))
        self._limits = limits
        self._wake = wake
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._messages = 0
        self._lock = threading.Lock()
        self.flushed_at = 0.0
        self.blocked_since: float | None = None
        self.is_overrun = False
        self.is_gone = False

    @property
    def has_room(self) -> bool:
        """Whether much more may be put in."""
        return self._messages * 2 < self._limits.queued_messages and self._bytes * 2 < self._limits.queued_bytes

    def put(self, frames: bytes, count: int = 1) -> None:
        """Queue one or several frames."""
        with self._lock:
            if self.is_overrun or self.is_gone:
                return
            is_full = self._messages >= self._limits.queued_messages
            if is_full or self._bytes + len(frames) > self._limits.queued_bytes:
                self._drop()
            else:
                self._queue.append(frames)
                self._bytes += len(frames)
                self._messages += count
                return
        self._wake()

    def close_with(self, frame: bytes) -> None:
        """Queue the last frame, in place of everything that has not begun to be sent."""
        with self._lock:
            self._drop()
            self._queue.append(frame)
            self._bytes += len(frame)

    def flush(self, *, retry: bool = False) -> None:
        """Send as much as the socket takes at once. Once it is full, only a `retry` tries again."""
        if self.blocked_since is not None and not retry:
            return
        with self._lock:
            if self._queue and not self.is_gone:
                self._send()
            needs_handler = self.blocked_since is not None or self.is_gone
        if needs_handler and not retry:
            self._wake()

    def wait_until_writable(self, seconds: float) -> None:
        """Wait until a full socket takes more."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLOUT)
        poll.poll(seconds * 1000)

    def blocked_for(self) -> float:
        """How long the socket has not taken anything."""
        since = self.blocked_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """End the connection, whoever waits on it."""
        with self._lock:
            self.is_gone = True
            self._queue.clear()
            # The other side may be faster.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def _send(self) -> None:
        batch = self._queue[0] if len(self._queue) == 1 else b"".join(self._queue)
        self._queue.clear()
        try:
            sent = self._socket.send(batch, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.is_gone = True
            return
        now = time.monotonic()
        self.flushed_at = now
        rest = batch[sent:]
        self._bytes, self._messages = len(rest), min(len(rest), 1)
        if not rest:
            self.blocked_since = None
            return
        self._queue.append(rest)
        if sent or self.blocked_since is None:
            self.blocked_since = now

    def _drop(self) -> None:
        """Forget the queue, but not the rest of a frame whose beginning was sent."""
        self.is_overrun = True
        begun = self._queue[0] if self.blocked_since is not None and self._queue else b""
        self._queue.clear()
        self._bytes, self._messages = len(begun), min(len(begun), 1)
        if begun:
            self._queue.append(begun)


class OutboxSocket:
    """Stands in for the socket in the WebSocket library, so that its own frames never land inside one of ours."""

    def __init__(self, sock: socket.socket, outbox: Outbox) -> None:
        self._sock = sock
        self._outbox = outbox

    def send(self, frame: bytes) -> int:
        self._outbox.put(frame)
        self._outbox.flush()
        return len(frame)

    def recv(self, size: int) -> bytes:
        return self._sock.recv(size)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()
