"""Sockets that connect only where they may, and that give up as soon as their call is cancelled or too late.

The name is resolved, the answers are judged, and the very address that was judged is connected to: between the check
and the connection nobody is asked again, so an answer that changes (DNS rebinding) changes nothing.
"""

import errno
import os
import queue
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import httpcore

from pipelit.errors import AddressRefused, StepCancelled, StepTimeout, UpstreamRefused
from pipelit.integrations.addresses import Address, AllowList, parse

Resolver = Callable[[str, int], Sequence[str]]
"""The addresses of a host, in the order to try them. Raises `OSError` when there are none."""

SLICE = 0.25
"""Seconds after which a waiting call looks up to see whether it was cancelled."""
FIRST_TRY = 3.0
"""Seconds an address may take to answer while another one is left to try."""


@dataclass(slots=True)
class Call:
    """One outgoing call under way: how long it may take, and who may stop it."""

    timeout: float
    is_cancelled: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic
    _deadline: float = field(init=False)
    _asked: float = field(init=False)

    def __post_init__(self) -> None:
        self._asked = self.clock()
        self._deadline = self._asked + self.timeout

    def slice(self) -> float:
        """Seconds to wait before asking again. Raises `StepCancelled` when stopped, `StepTimeout` when too late."""
        at = self.clock()
        if at - self._asked >= SLICE:
            self._asked = at
            if self.is_cancelled():
                raise StepCancelled("The execution was stopped during an outgoing call.")
        if at >= self._deadline:
            raise StepTimeout(f"The other side did not answer completely within {self.timeout:g} seconds.")
        return min(SLICE, self._deadline - at)


_CURRENT: ContextVar[Call] = ContextVar("pipelit_http_call")


@contextmanager
def under_way(call: Call) -> Iterator[None]:
    """Sockets used by this thread (or greenlet) inside the block work for `call`."""
    token = _CURRENT.set(call)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def system_resolver(host: str, port: int) -> Sequence[str]:
    """What the machine's resolver says."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class PinnedBackend(httpcore.NetworkBackend):
    """Opens connections for httpcore's pool, to addresses that are public or allowed."""

    def __init__(self, allowed: AllowList, resolver: Resolver) -> None:
        self._allowed = allowed
        self._resolver = resolver

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address of `host` that answers. Raises `AddressRefused` if any is not allowed."""
        call = _CURRENT.get()
        addresses = self._addresses(host, port, call)
        failure: OSError = OSError("no address")
        for left, address in zip(range(len(addresses) - 1, -1, -1), addresses, strict=True):
            try:
                return WatchedStream(_connected(address, port, call, FIRST_TRY if left else None))
            except OSError as error:
                failure = error
        raise httpcore.ConnectError(failure.strerror or str(failure)) from failure

    def _addresses(self, host: str, port: int, call: Call) -> list[Address]:
        try:
            literal = parse(host)
        except ValueError:
            found = _resolved(self._resolver, host, port, call)
        else:
            found = [literal]
        if not self._allowed.has_name(host) and not all(map(self._allowed.permits, found)):
            raise AddressRefused(
                f"'{host}' is at a private or reserved address. The operator can allow it with PIPELIT_HTTP_ALLOW."
            )
        return found


def _resolved(resolver: Resolver, host: str, port: int, call: Call) -> list[Address]:
    """Ask the resolver in a thread of its own, because it cannot be interrupted."""
    answers: queue.SimpleQueue[Sequence[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(resolver(host, port))
        except (OSError, UnicodeError) as error:
            answers.put(error if isinstance(error, OSError) else OSError(str(error)))

    threading.Thread(target=ask, name="pipelit-resolver", daemon=True).start()
    while True:
        try:
            answer = answers.get(timeout=call.slice())
        except queue.Empty:
            continue
        if isinstance(answer, OSError):
            raise httpcore.ConnectError(f"the name '{host}' was not found") from answer
        if not answer:
            raise httpcore.ConnectError(f"the name '{host}' has no address")
        return [parse(text) for text in answer]


def _connected(address: Address, port: int, call: Call, patience: float | None) -> socket.socket:
    """A socket connected to exactly this address. Raises `OSError` when nobody answers there."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    connection = socket.socket(family, socket.SOCK_STREAM)
    give_up = call.clock() + patience if patience is not None else None
    try:
        connection.setblocking(False)
        _check(connection.connect_ex((str(address), port)))
        while not _is_ready(connection, selectors.EVENT_WRITE, call.slice()):
            _check(errno.ETIMEDOUT if give_up is not None and call.clock() >= give_up else 0)
        _check(connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(code: int) -> None:
    if code not in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
        raise OSError(code, os.strerror(code))


def _is_ready(connection: socket.socket, event: int, seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(connection, event)
        return bool(selector.select(seconds))


class WatchedStream(httpcore.NetworkStream):
    """A connection whose every wait is cut into slices; the timeouts of httpcore are not used."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        call = _CURRENT.get()
        while True:
            self._connection.settimeout(call.slice())
            try:
                return self._connection.recv(max_bytes)
            except TimeoutError:
                continue
            except OSError as error:
                raise httpcore.ReadError(error.strerror or str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        call = _CURRENT.get()
        left = memoryview(buffer)
        while left:
            self._connection.settimeout(call.slice())
            try:
                left = left[self._connection.send(left) :]
            except TimeoutError:
                continue
            except OSError as error:
                raise httpcore.WriteError(error.strerror or str(error)) from error

    def close(self) -> None:
        self._connection.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same connection encrypted, its certificate checked against the name that was asked for."""
        call = _CURRENT.get()
        try:
            self._connection = ssl_context.wrap_socket(
                self._connection, server_hostname=server_hostname, do_handshake_on_connect=False
            )
            _shake_hands(self._connection, call)
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise UpstreamRefused(
                f"The certificate of '{server_hostname}' is not valid: {error.verify_message}"
            ) from error
        except OSError as error:
            self.close()
            raise httpcore.ConnectError(f"no encrypted connection: {error.strerror or error}") from error
        except BaseException:
            self.close()
            raise
        return self

    def get_extra_info(self, info: str) -> object:
        """What httpcore asks: whether an idle connection has been closed by the other side (then it is readable)."""
        if info == "is_readable":
            return self._connection.fileno() < 0 or _is_ready(self._connection, selectors.EVENT_READ, 0)
        if info == "ssl_object" and isinstance(self._connection, ssl.SSLSocket):
            return self._connection
        return None


def _shake_hands(connection: socket.socket, call: Call) -> None:
    assert isinstance(connection, ssl.SSLSocket)
    while True:
        connection.settimeout(call.slice())
        try:
            return connection.do_handshake()
        except TimeoutError:
            continue
