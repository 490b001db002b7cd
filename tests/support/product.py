"""The whole product, started as its users start it: `pipelit up` in a home of its own on a free port."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import find_free_port

PATIENCE = 60.0


@dataclass(slots=True)
class Answer:
    """What the server said."""

    status: int
    body: Any


@dataclass(slots=True)
class Product:
    """One installation; it can be started and stopped as often as a story needs."""

    home: Path
    command: tuple[str, ...] = (sys.executable, "-m", "pipelit", "up")
    environ: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=find_free_port)
    key: str | None = None
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start and wait until everything is ready; how many seconds that took."""
        began = time.monotonic()
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                self.command,
                env=self._environ(),
                cwd=self.home.parent,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until(self._is_ready, "the product is ready", or_else=self.said)
        return time.monotonic() - began

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Press Ctrl-C: the signal goes to everything the terminal started. The exit code."""
        if self._process is None:
            return 0
        os.killpg(self._process.pid, number)
        code = self._process.wait(timeout=PATIENCE)
        self._process = None
        return code

    def kill(self) -> None:
        """Kill the first process, so that it cannot stop the others."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def said(self) -> str:
        """What stood on the terminal."""
        return self._output.read_text(encoding="utf-8") if self._output.exists() else ""

    def log(self, program: str) -> str:
        return (self.home / "logs" / f"{program}.log").read_text(encoding="utf-8")

    def processes(self) -> dict[int, str]:
        """Every process that was told of this home, wherever it is by now, and its command line."""
        return dict(_concerned(self.home))

    def pid_of(self, *words: str) -> int:
        """The oldest process whose command line has these words."""
        found = sorted(pid for pid, command in self.processes().items() if all(word in command for word in words))
        assert found, f"no process has {words} in {self.processes()}"
        return found[0]

    def call(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """An HTTP request, with the key if there is one."""
        if self.key is not None:
            headers.setdefault("Authorization", f"Bearer {self.key}")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json", **headers}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return Answer(response.status, _parsed(response.read()))
        except urllib.error.HTTPError as refusal:
            with refusal:
                return Answer(refusal.code, _parsed(refusal.read()))

    def set_up(self) -> None:
        """Make the first user and keep the key."""
        answer = self.call("POST", "/api/v1/auth/setup/", {"username": "first", "password": "a long password"})
        assert answer.status == 201, answer
        self.key = answer.body["key"]

    @property
    def _output(self) -> Path:
        return self.home.parent / "terminal"

    def _environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PIPELIT_")}
        for name in ("DATABASE_URL", "REDIS_URL", "FIELD_ENCRYPTION_KEY", "SECRET_KEY"):
            kept.pop(name, None)
        return {**kept, "PIPELIT_HOME": str(self.home), "PIPELIT_PORT": str(self.port), **self.environ}

    def _is_ready(self) -> bool:
        assert self._process is None or self._process.poll() is None, self.said()
        try:
            return self.call("GET", "/api/v1/health/ready/").status == 200
        except OSError:
            return False


def wait_until(
    is_so: Callable[[], bool], what: str, *, seconds: float = PATIENCE, or_else: Callable[[], str] = str
) -> None:
    """Wait for something; when it does not happen in time, fail and say what was waited for."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}\n{or_else()}"
        time.sleep(0.05)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _concerned(home: Path) -> Iterator[tuple[int, str]]:
    """Processes that were told of a home, or name it (the server's title replaces its environment)."""
    told, named = f"PIPELIT_HOME={home}".encode(), f"{home}/".encode()
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes() if folder.name.isdigit() else b""
            if command and (named in command or told in (folder / "environ").read_bytes().split(b"\0")):
                yield int(folder.name), command.replace(b"\0", b" ").decode()
        except OSError:
            # It has ended meanwhile, or belongs to somebody else.
            continue


@pytest.fixture
def new_product() -> Iterator[Product]:
    """An installation that has never been started; whatever the test leaves running is ended."""
    with tempfile.TemporaryDirectory(prefix="pl-up-") as folder:
        product = Product(Path(folder) / "home")
        yield product
        product.stop()
        for pid in product.processes():
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def product() -> Iterator[Product]:
    """A running installation with a first user, shared by the stories of this test process."""
    with tempfile.TemporaryDirectory(prefix="pl-up-") as folder:
        # Two web processes, so that what one of them begins is waited for and asked about in the other as well.
        environ = {"PIPELIT_HTTP_ALLOW": "127.0.0.0/8", "PIPELIT_WEB_WORKERS": "2"}
        product = Product(Path(folder) / "home", environ=environ)
        try:
            product.start()
            product.set_up()
            yield product
        finally:
            product.stop()
