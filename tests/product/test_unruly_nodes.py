"""Nodes that do what no node should: they are stopped, and everything else goes on."""

import threading
import time
from http.server import BaseHTTPRequestHandler

import pytest

from tests.integrations.web import Asked, serving
from tests.support.product import wait_until
from tests.support.unruly import Stage, is_there

pytestmark = pytest.mark.product

PROCESSES = {"forking": 3, "parent": 3}
"""How many processes these note; the others one."""


@pytest.mark.parametrize("way", ["busy", "asleep", "stubborn", "deaf", "forking", "parent"])
def test_a_cancel_ends_whatever_the_node_is_at(stage: Stage, way: str) -> None:
    execution = stage.start(way)
    wait_until(lambda: len(stage.noted()) == PROCESSES.get(way, 1), "all processes have begun", or_else=stage.said)
    _worker, *others = dict.fromkeys(stage.noted())

    began = time.monotonic()
    assert stage.cancel(execution)["status"] == "cancelled"
    told = time.monotonic() - began
    free = stage.is_free()
    wait_until(lambda: not any(map(is_there, others)), "what the node has started is gone", or_else=stage.said)

    assert stage.attempts(execution) == [(1, "cancelled", "step_cancelled")]
    print(f"{way}: told after {told:.2f} s, free {free:.2f} s later")  # noqa: T201 (for who reads the measurements)


@pytest.mark.parametrize("way", ["busy", "asleep", "stubborn", "deaf", "parent"])
def test_a_time_limit_ends_whatever_the_node_is_at(stage: Stage, way: str) -> None:
    execution = stage.start(way, timeout=1)

    ended = stage.ended(execution)

    assert (ended["status"], ended["error_code"]) == ("failed", "step_timeout")
    assert stage.attempts(execution) == [(1, "failed", "step_timeout")]
    assert ("killed" in ended["error_message"]) is (way in ("stubborn", "deaf", "parent"))
    stage.is_free()
    _worker, *others = dict.fromkeys(stage.noted())
    wait_until(lambda: not any(map(is_there, others)), "what the node has started is gone", or_else=stage.said)


def test_a_time_limit_that_was_ignored_follows_the_retry_policy(stage: Stage) -> None:
    execution = stage.start("stubborn", timeout=1, retry={"attempts": 2, "initial": 0})

    stage.ended(execution)

    assert stage.attempts(execution) == [(1, "failed", "step_timeout"), (2, "failed", "step_timeout")]


def test_a_cancel_ends_a_call_to_a_server_that_says_nothing(stage: Stage) -> None:
    asked, opened = threading.Event(), threading.Event()

    def hang(_handler: BaseHTTPRequestHandler, _asked: Asked) -> None:
        asked.set()
        opened.wait(60)

    with serving(hang) as web:
        try:
            execution = stage.run("http_request", {"url": web.url()})
            assert asked.wait(60)

            assert stage.cancel(execution)["status"] == "cancelled"
            stage.is_free()
        finally:
            opened.set()


def test_a_copy_that_a_node_makes_of_its_process_reports_nothing(stage: Stage) -> None:
    execution = stage.start("copied")

    assert stage.ended(execution)["status"] == "completed"
    assert stage.attempts(execution) == [(1, "success", None)]
    stage.is_free()


def test_a_node_that_wants_all_memory_fails_alone_and_says_why(stage: Stage) -> None:
    execution = stage.start("hungry")

    ended = stage.ended(execution)

    assert (ended["status"], ended["error_code"]) == ("failed", "out_of_memory")
    assert "PIPELIT_STEP_MEMORY_MB" in ended["error_message"]
    stage.is_free()


@pytest.mark.parametrize(("way", "how"), [("killed", "signal 9 (SIGKILL)"), ("leaving", "exitcode 3")])
def test_a_step_that_kills_its_process_thrice_is_given_up_with_the_true_reason(
    stage: Stage, way: str, how: str
) -> None:
    execution = stage.start(way)

    ended = stage.ended(execution)

    assert (ended["status"], ended["error_code"]) == ("failed", "worker_lost")
    assert "3 times" in ended["error_message"]
    assert how in ended["error_message"]
    assert stage.attempts(execution) == [(number, "failed", "worker_lost") for number in (1, 2, 3)]
    assert all(how in log["error"] for log in ended["logs"] if log["node_id"] == "a")
    stage.is_free()


@pytest.mark.parametrize("way", ["printing", "writing", "chattering"])
def test_a_node_that_prints_a_gigabyte_fills_no_disk(stage: Stage, way: str) -> None:
    before = written(stage)
    execution = stage.start(way)

    assert stage.ended(execution)["status"] == "completed"
    stage.is_free()
    assert written(stage) - before < 1_000_000
    assert "what else the step prints is dropped" in stage.said()


def written(stage: Stage) -> int:
    """The bytes of all log files."""
    return sum(file.stat().st_size for file in (stage.product.home / "logs").iterdir())
