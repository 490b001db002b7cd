"""What a process of the product loads, and what it leaves for later. Each story is told by a process of its own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def printed(program: str, home: Path) -> list[str]:
    """The words a program prints in a fresh process that is lean from its first line on."""
    beginning = "import sys; from pipelit.launcher import lean; lean.be_lean()\n"
    done = subprocess.run(
        [sys.executable, "-c", beginning + program, str(home)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


LOADED = """
print(*(name for name in ("rich.console", "httpx._client", "httpcore._api", "redis.asyncio.client", "anyio", "alembic",
                          "cryptography.fernet", "prometheus_client.registry", "valkey", "flask_smorest",
                          "limits.aio.storage", "sqlalchemy.dialects.postgresql")
        if sys.modules.get(name)))
"""
ASSEMBLED = """
from pipelit.launcher.environment import load_settings
settings = load_settings({"PIPELIT_HOME": sys.argv[1]})
"""


def test_a_worker_loads_no_http_client_no_event_loop_and_no_web_framework(tmp_path: Path) -> None:
    program = "import pipelit.launcher.workers as w" + ASSEMBLED + "w.assemble(settings)" + LOADED

    assert printed(program, tmp_path) == []


def test_a_web_process_loads_what_answers_requests_and_nothing_that_calls_others(tmp_path: Path) -> None:
    program = "from pipelit.app import create_app" + ASSEMBLED + "create_app(settings)" + LOADED

    assert printed(program, tmp_path) == ["flask_smorest"]


def test_a_start_that_finds_everything_in_order_does_not_load_the_application(tmp_path: Path) -> None:
    program = """
import pipelit.commands.up
print(*(name for name in ("flask", "celery", "alembic", "pipelit.assembly") if name in sys.modules))
"""

    assert printed(program, tmp_path) == []


def test_what_was_broken_off_while_it_was_loaded_is_loaded_with_the_next_use(tmp_path: Path) -> None:
    program = """
import sys, httpcore
sys.modules["h11"] = None
try:
    httpcore.URL
except ImportError:
    print("broken-off")
del sys.modules["h11"]
print(httpcore.URL("http://example.org/").host.decode(), httpcore.LocalProtocolError.__name__)
"""

    assert printed(program, tmp_path) == ["broken-off", "example.org", "LocalProtocolError"]


def test_what_was_postponed_is_there_when_it_is_used(tmp_path: Path) -> None:
    program = """
import httpx, redis, redis.asyncio
from redis.asyncio import Redis
print(httpx.URL("http://example.org/").host, Redis.__name__, redis.asyncio.Redis is Redis, hasattr(httpx, "nothing"))
print(*(name for name in ("httpx", "redis.asyncio") if "__getattr__" in vars(sys.modules[name])))
"""

    assert printed(program, tmp_path) == ["example.org", "Redis", "True", "False"]


def test_threads_that_use_it_at_the_same_time_all_get_it_whole(tmp_path: Path) -> None:
    program = """
import threading, httpx
together, found = threading.Barrier(8), []
def use():
    together.wait()
    found.append(httpx.create_ssl_context is not None and httpx.codes.OK)
threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), set(map(int, found)))
"""

    assert printed(program, tmp_path) == ["8", "{200}"]
