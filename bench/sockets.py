"""Many WebSocket clients in one process, as cheap as Python allows: what is measured is the server.

Driven over a pipe: `connect`, `subscribe`, `listen` for some seconds, `drain` until every socket is closed.
"""

import base64
import os
import resource
import selectors
import socket
import time
from multiprocessing.connection import Connection

CLOSE = 0x88
TEXT = 0x81
MARK = b'"ns":'


class Client:
    """One socket after its handshake; `is_sampled` clients read the time in each event, the others only count."""

    def __init__(self, port: int, key: str, *, is_sampled: bool) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        nonce = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /ws/?token={key} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {nonce}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(4096)
        head, self.rest = answer.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise RuntimeError(head.decode())
        self.is_sampled = is_sampled
        self.events = 0
        self.close_code: int | None = None

    def say(self, text: str) -> None:
        payload = text.encode()
        mask = b"\0\0\0\0"
        self.socket.sendall(bytes((TEXT, 0x80 | len(payload))) + mask + payload)

    def frames(self, chunk: bytes) -> list[bytes]:
        """The payloads of the text frames that are complete now."""
        data = self.rest + chunk
        at, found = 0, []
        while len(data) >= at + 2:
            size, head = data[at + 1], at + 2
            if size == 126:
                size, head = int.from_bytes(data[at + 2 : at + 4]), at + 4
            if len(data) < head + size:
                break
            payload = data[head : head + size]
            if data[at] == CLOSE:
                self.close_code = int.from_bytes(payload[:2])
            else:
                found.append(payload)
            at = head + size
        self.rest = data[at:]
        return found


def main(pipe: Connection, port: int, key: str) -> None:
    """Obey the pipe until it says `end`."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65_536), most))
    clients: list[Client] = []
    selector = selectors.DefaultSelector()
    while (order := pipe.recv())[0] != "end":
        match order:
            case ("connect", count):
                for number in range(count):
                    clients.append(Client(port, key, is_sampled=number % 10 == 0))
                    selector.register(clients[-1].socket, selectors.EVENT_READ, clients[-1])
                pipe.send(len(clients))
            case ("subscribe", channel):
                for client in clients:
                    client.say(f'{{"type":"subscribe","channel":"{channel}"}}')
                pipe.send(_listen(selector, clients, 60, until_events=1)[1])
            case ("listen", seconds):
                for client in clients:
                    client.events = 0
                pipe.send(_listen(selector, clients, seconds))
            case ("drain",):
                pipe.send(_drain(selector, clients))


def _listen(
    selector: selectors.BaseSelector, clients: list[Client], seconds: float, until_events: int | None = None
) -> tuple[list[float], int]:
    """Latencies in ms of the sampled clients, and the number of events that all clients got."""
    latencies: list[float] = []
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        for ready, _ in selector.select(left):
            client: Client = ready.data
            frames = client.frames(client.socket.recv(65_536))
            client.events += len(frames)
            if client.is_sampled:
                now = time.monotonic_ns()
                latencies += [(now - _sent(frame)) / 1e6 for frame in frames if MARK in frame]
        if until_events is not None and all(client.events >= until_events for client in clients):
            break
    return latencies, sum(client.events for client in clients)


def _sent(frame: bytes) -> int:
    digits = frame.partition(MARK)[2]
    return int(digits[: digits.index(b"}")])


def _drain(selector: selectors.BaseSelector, clients: list[Client]) -> tuple[list[int | None], float]:
    """The codes that the sockets were closed with, and how long it took until all of them were."""
    began = time.monotonic()
    open_sockets = len(clients)
    while open_sockets and time.monotonic() - began < 30:
        for ready, _ in selector.select(1):
            client: Client = ready.data
            try:
                chunk = client.socket.recv(65_536)
            except ConnectionError:
                chunk = b""
            client.frames(chunk)
            if not chunk:
                selector.unregister(client.socket)
                client.socket.close()
                open_sockets -= 1
    return [client.close_code for client in clients], time.monotonic() - began
