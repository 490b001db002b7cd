"""The baseline of the web side: a Flask view that greets, under the same server with as many workers."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

from flask import Flask, request

from bench.ports import free_port
from bench.stage import ROOT


def create_app() -> Flask:
    """One view: JSON in, JSON out."""
    app = Flask("plain")

    @app.route("/", methods=["GET", "POST"])
    def greet() -> dict[str, str]:
        return {"text": f"Hello {(request.get_json(silent=True) or {}).get('name')}"}

    return app


@contextmanager
def plain_flask() -> Iterator[int]:
    """The baseline on a port of its own."""
    port = free_port()
    command = ("gunicorn", "-k", "gevent", "-w", "2", "-b", f"127.0.0.1:{port}", "--log-level", "warning")
    server = subprocess.Popen([sys.executable, "-m", *command, "bench.plain:create_app()"], cwd=ROOT)
    try:
        while not _answers(port):
            time.sleep(0.05)
        yield port
    finally:
        server.terminate()
        server.wait(10)


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/", timeout=10):
            return True
    except (URLError, TimeoutError):
        return False
