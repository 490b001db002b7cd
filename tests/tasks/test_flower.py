"""Flower, attached to the same broker, sees each step under its own id."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.crew import Crew
from tests.support.product import wait_until
from tests.support.servers import find_free_port


@pytest.fixture
def flower(crew: Crew) -> Iterator[str]:
    """The address of a Flower that was started as docs/operations.md says."""
    port = find_free_port()
    command = [sys.executable, "-m", "celery", f"--broker={crew.settings.broker_url}", "flower"]
    process = subprocess.Popen(
        [*command, "--address=127.0.0.1", f"--port={port}"],
        env={**os.environ, "FLOWER_UNAUTHENTICATED_API": "true"},
        cwd=crew.settings.home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait()


def asked(url: str) -> Any:
    """What Flower answers; nothing while it is not there yet."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)
    except OSError:
        return {}


def test_flower_shows_the_steps_under_their_deterministic_ids(crew: Crew, flower: str) -> None:
    (worker,) = crew.start("steps")
    wait_until(lambda: bool(asked(f"{flower}/api/workers?refresh=true")), "Flower knows the worker", or_else=crew.said)
    shown: dict[str, Any] = {}

    def is_shown_whole() -> bool:
        row = crew.run({"a": ("template", {"template": "a"})}, "start -> a")
        crew.wait_for(row)
        shown.clear()
        shown.update(asked(f"{flower}/api/task/info/{row.execution_id}:a::a1"))
        return shown.get("state") == "SUCCESS" and shown.get("name") is not None

    # Events are switched on by a message to the worker, which takes its moment. Of a step that was received before and
    # ended after it, only the end is known, and not the name; the next one is whole.
    wait_until(is_shown_whole, "Flower shows a whole step", or_else=lambda: f"{shown}\n{crew.said()}")
    assert shown["name"] == "pipelit.run_step"
    assert shown["worker"].startswith(f"steps.{worker.pid}@")
