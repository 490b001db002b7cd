"""Who starts an execution and waits hears its end, whoever it is that runs it and however long that takes."""

import threading
from collections.abc import Iterator

import pytest
from flask import Flask

from pipelit.api.live import EXTENSION, Live
from pipelit.api.waiting import Ending, start_and_hear_end
from pipelit.engine import broadcast
from pipelit.extensions import db
from pipelit.models import UserProfile, Workflow, WorkflowExecution
from pipelit.nodes.base import TriggerEvent
from pipelit.services import executions
from tests.api.conftest import working
from tests.engine.stories import author, template
from tests.support.hand import Hand
from tests.support.product import wait_until
from tests.support.workflows import build

SECONDS = 30.0


@pytest.fixture
def ada(app: Flask) -> Iterator[UserProfile]:
    with app.app_context():
        yield author()
        live: Live = app.extensions[EXTENSION]
        live.hub.stop()


def workflow_of(text: str) -> Workflow:
    return build({"start": ("trigger_manual", {}), "a": template(text)}, "start -> a")


def begun(workflow: Workflow, by: UserProfile, execution_id: str, reply_to: str | None) -> WorkflowExecution:
    event = TriggerEvent("manual", {"text": "Ada"})
    return executions.begin(workflow, "start", event, by=by, execution_id=execution_id, reply_to=reply_to)


def test_the_engine_tells_the_end_before_anything_is_recorded(app: Flask, ada: UserProfile) -> None:
    workflow, hand = workflow_of("Hello {{ trigger.text }}"), Hand(app)

    def start(execution_id: str, reply_to: str) -> WorkflowExecution:
        row = begun(workflow, ada, execution_id, reply_to)
        while hand.deliver():
            pass
        return row

    row, ending = start_and_hear_end(start, SECONDS)

    assert ending == Ending("completed", "Hello Ada")
    recorded = executions.get(row.execution_id, by=None)
    assert recorded.status == "pending"


def test_an_end_that_nobody_is_told_is_found_in_its_row(app: Flask, ada: UserProfile) -> None:
    """As when the broker was away at the start, and somebody else made up for it who knows of no caller."""
    workflow = workflow_of("Hello {{ trigger.text }}")

    with working(app):
        _, ending = start_and_hear_end(lambda new, _reply_to: begun(workflow, ada, new, None), SECONDS)

    assert ending == Ending("completed", "Hello Ada")


@pytest.mark.parametrize("is_told", [True, False])
def test_an_end_that_is_long_in_coming_is_heard(app: Flask, ada: UserProfile, is_told: bool) -> None:
    workflow, hand, ids = workflow_of("Hello {{ trigger.text }}"), Hand(app), []

    def start(execution_id: str, reply_to: str) -> WorkflowExecution:
        ids.append(execution_id)
        return begun(workflow, ada, execution_id, reply_to if is_told else None)

    def run_late() -> None:
        wait_until(lambda: len(ids) == 1, "the execution is started")
        channel = f"{broadcast.PREFIX}recorded:{ids[0]}"
        wait_until(lambda: hand.redis.pubsub_numsub(channel) == [(channel, 1)], "the caller waits for the row as well")
        with app.app_context():
            hand.run_all()
            db.session.remove()

    thread = threading.Thread(target=run_late)
    thread.start()
    _, ending = start_and_hear_end(start, SECONDS)
    thread.join()

    assert ending == Ending("completed", "Hello Ada")


def test_an_end_that_does_not_come_in_time_is_none(app: Flask, ada: UserProfile) -> None:
    workflow = workflow_of("Hello")

    row, ending = start_and_hear_end(lambda new, reply_to: begun(workflow, ada, new, reply_to), 0.1)

    assert ending is None
    assert executions.get(row.execution_id, by=None).is_live
