"""Log lines: one form, ids from context, no secrets."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from pipelit import telemetry
from pipelit.config import Settings


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    telemetry.configure(Settings.load({"PIPELIT_HOME": "/srv", "PIPELIT_LOG_FORMAT": "json"}), stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(log: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_ids_bound_around_a_piece_of_work_are_on_each_of_its_lines(log):
    with telemetry.bound(execution_id="e1"):
        structlog.get_logger("pipelit.engine").info("step_failed", error="timeout")
    structlog.get_logger("pipelit.engine").info("idle")

    inside, outside = lines(log)
    assert (inside["execution_id"], inside["event"], inside["error"]) == ("e1", "step_failed", "timeout")
    assert inside["level"] == "info"
    assert "execution_id" not in outside


def test_lines_of_libraries_have_the_same_form(log):
    logging.getLogger("some.library").warning("connected to %s", "redis://user:hunter2@cache/0")

    (line,) = lines(log)
    assert line["logger"] == "some.library"
    assert line["event"] == "connected to redis://user:••••@cache/0"


def test_what_is_named_like_a_secret_is_masked_wherever_it_stands(log):
    structlog.get_logger().info("called", api_key="sk-1", headers={"Authorization": "Bearer sk-1"}, total_tokens=7)

    assert "sk-1" not in log.getvalue()
    assert lines(log)[0]["total_tokens"] == 7


def test_an_exception_is_one_line(log):
    try:
        raise ValueError("postgresql://u:hunter2@db/x")
    except ValueError:
        structlog.get_logger().exception("crashed")

    (line,) = lines(log)
    assert "ValueError" in str(line["exception"])
    assert "hunter2" not in log.getvalue()
