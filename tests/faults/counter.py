"""The outside world that the workflows change: a web server that counts its effects by idempotency key.

`POST /effects/{ticket}/{node}/{index}` has one effect for each `Idempotency-Key`, at the moment it arrives; what comes
again under the same key is answered alike and changes nothing. Without a key every call is an effect of its own, as
with most services. `ms` makes the answer come late, `flaky=1` refuses the first call with a 503 and no effect.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

TABLES = """
CREATE TABLE IF NOT EXISTS calls (ticket TEXT, effect TEXT, key TEXT);
CREATE TABLE IF NOT EXISTS effects (ticket TEXT, effect TEXT, key TEXT, times INTEGER);
CREATE UNIQUE INDEX IF NOT EXISTS once ON effects (ticket, effect, key);
CREATE INDEX IF NOT EXISTS of_ticket ON calls (ticket);
"""


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect as the other side keeps it; `key` is empty where none was sent."""

    ticket: str
    name: str
    key: str
    times: int
    calls: int


@dataclass
class Counter:
    """The server's memory, which is a file: it counts on when the server is started again."""

    file: Path
    port: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._rows = sqlite3.connect(self.file, check_same_thread=False, isolation_level=None)
        self._rows.executescript(TABLES)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/effects"

    def arrive(self, ticket: str, name: str, key: str, *, is_flaky: bool) -> bool:
        """Note a call and have its effect, unless its key has had it. False if the call is refused."""
        with self._lock, self._rows:
            calls = self._rows.execute("SELECT count(*) FROM calls WHERE ticket=? AND effect=?", (ticket, name))
            is_first = calls.fetchone() == (0,)
            self._rows.execute("INSERT INTO calls VALUES (?, ?, ?)", (ticket, name, key))
            if is_flaky and is_first:
                return False
            known = "ON CONFLICT DO UPDATE SET times = times + (key = '')"
            self._rows.execute(f"INSERT INTO effects VALUES (?, ?, ?, 1) {known}", (ticket, name, key))
            return True

    def effects(self) -> list[Effect]:
        """Everything that was ever done."""
        counted = "(SELECT count(*) FROM calls c WHERE c.ticket=e.ticket AND c.effect=e.effect AND c.key=e.key)"
        with self._lock:
            return [Effect(*row) for row in self._rows.execute(f"SELECT e.*, {counted} FROM effects e")]

    def close(self) -> None:
        self._rows.close()


@contextmanager
def counting(file: Path) -> Iterator[Counter]:
    """The server, until the block ends."""
    counter = Counter(file)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = urlsplit(self.path)
            _, _, ticket, name = parts.path.split("/", 3)
            wishes = {word: values[0] for word, values in parse_qs(parts.query).items()}
            key = self.headers.get("Idempotency-Key", "")
            is_done = counter.arrive(ticket, name, key, is_flaky="flaky" in wishes)
            time.sleep(int(wishes.get("ms", 0)) / 1000)
            # Neither the ticket nor the time: an answer is the same in every run.
            body = json.dumps({"done": name} if is_done else {"busy": name}).encode()
            self.send_response_only(200 if is_done else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet: the effects are what counts."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """Callers are killed while they wait for an answer; that is what this is for."""

    with Server(("127.0.0.1", 0), Handler) as server:
        counter.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield counter
        finally:
            server.shutdown()
            thread.join()
            counter.close()
