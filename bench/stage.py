"""The stage that measurements run on: one embedded server, one SQLite database, real worker processes."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flask import Flask

from pipelit.assembly import assemble
from pipelit.config import Settings
from pipelit.launcher import database, embedded
from pipelit.launcher.environment import load_settings, prepare_home

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Stage:
    """Where the measured processes live, and the application that the measuring process itself uses."""

    app: Flask
    settings: Settings
    environment: Mapping[str, str]

    @contextmanager
    def process(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a Python module of the project for as long as the block lasts."""
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, **self.environment},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def stage() -> Iterator[Stage]:
    """An empty installation in a temporary home, its broker running and its database migrated."""
    with tempfile.TemporaryDirectory(prefix="pl-bench-") as home, ExitStack() as stack:
        environment = {"PIPELIT_HOME": home, "PIPELIT_LOG_LEVEL": "warning", "PIPELIT_HTTP_ALLOW": "127.0.0.0/8"}
        settings = load_settings({**environment, "PATH": os.environ["PATH"]})
        prepare_home(settings)
        stack.enter_context(embedded.running(settings))
        app = assemble(settings)
        with app.app_context():
            database.upgrade()
            yield Stage(app, settings, environment)
