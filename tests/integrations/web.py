"""Small real web servers that answer as a story says, and remember what they were asked."""

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int


@dataclass
class Web:
    """A running server: where it is, and what it was asked."""

    port: int
    asked: list[Asked] = field(default_factory=list)
    scheme: str = "http"

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    @property
    def last(self) -> Asked:
        return self.asked[-1]


Answer = Callable[[BaseHTTPRequestHandler, Asked], None]


def reply(
    handler: BaseHTTPRequestHandler, status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> None:
    """Send a whole answer."""
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def redirect(handler: BaseHTTPRequestHandler, to: str, status: int = 302) -> None:
    """Send the caller elsewhere."""
    reply(handler, status, headers={"Location": to})


def plain(handler: BaseHTTPRequestHandler, asked: Asked) -> None:
    """Answer everything with a word."""
    reply(handler, body=b"fine", headers={"Content-Type": "text/plain"})


@contextmanager
def serving(answer: Answer = plain, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Web]:
    """A server on a free port, until the block ends."""
    web = Web(0, scheme="https" if tls else "http")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65_537)
            if self.raw_requestline and self.parse_request():
                self.answer()
            else:
                self.close_connection = True

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            web.asked.append(Asked(self.command, self.path, headers, body, self.client_address[1]))
            try:
                answer(self, web.last)
            except OSError:
                self.close_connection = True  # the caller has gone, as the story wanted

        def log_message(self, *_: object) -> None:
            """Servers of tests are quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Callers that break off are part of many stories."""

    with Server((host, 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        web.port = server.server_port
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            thread.join()
