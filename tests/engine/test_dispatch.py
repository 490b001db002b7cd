"""The messages we push ourselves are the ones that Celery would have sent."""

import json
from typing import Any

import pytest
from celery.app.trace import build_tracer
from redis import Redis

from pipelit.engine.core.state import StepId
from pipelit.engine.dispatch import Dispatcher
from pipelit.engine.keys import TaskId
from pipelit.engine.runtime import engine
from pipelit.engine.store import Meta
from pipelit.extensions import celery
from tests.support.hand import Hand

ARGS = ["b2fe04ff-03e5-4b88-a257-63a6e36b4502", "greet@each:3", 1, 1_795_457_975_196, ["4ff2", 1, "story", 1]]


def sent_by_celery(redis: Redis, **options: Any) -> dict[str, Any]:
    """What a plain `send_task` puts on the queue."""
    # On a connection of its own: the pool that Celery keeps belongs to whichever broker this process knew first.
    with celery.connection_for_write() as connection:
        options["producer"] = celery.amqp.Producer(connection)
        celery.send_task("pipelit.run_step", ARGS, task_id="t", queue="default", ignore_result=True, **options)
    return json.loads(redis.rpop("default"))


def without_differences(message: dict[str, Any]) -> dict[str, Any]:
    """A message without the field in which two messages must differ, and the moment at which an ETA was computed."""
    message["properties"].pop("delivery_tag")
    if message["headers"]["eta"]:
        message["headers"]["eta"] = message["headers"]["eta"][:16]
    return message


@pytest.mark.parametrize("countdown", [0.0, 30.0])
def test_a_recorded_message_is_the_one_that_celery_sends(hand: Hand, countdown: float) -> None:
    dispatcher = Dispatcher(celery)

    message = dispatcher.message("pipelit.run_step", ARGS, task_id="t", queue="default", countdown=countdown)

    plain = sent_by_celery(hand.redis, countdown=countdown or None)
    assert message.key == "default"
    assert without_differences(json.loads(message.payload)) == without_differences(plain)


def test_a_message_that_was_filled_in_is_the_one_that_celery_sends(hand: Hand) -> None:
    dispatcher = Dispatcher(celery)
    dispatcher.message("pipelit.run_step", ["other", "step"], task_id="other", queue="default")

    message = dispatcher.message("pipelit.run_step", ARGS, task_id="t", queue="default")

    assert without_differences(json.loads(message.payload)) == without_differences(sent_by_celery(hand.redis))


def test_a_message_sent_by_a_task_names_its_parent_as_celery_does(hand: Hand) -> None:
    dispatcher = Dispatcher(celery)

    @celery.task(name="tests.parent", bind=True)
    def parent(_self: Any) -> tuple[str, str]:
        celery.current_worker_task.request.called_directly = False
        plain = sent_by_celery(hand.redis)
        message = dispatcher.message("pipelit.run_step", ARGS, task_id="t", queue="default")
        return json.dumps(without_differences(plain)), json.dumps(without_differences(json.loads(message.payload)))

    tracer = build_tracer("tests.parent", parent, app=celery)
    plain, ours = tracer("p", [], {}, {"id": "p", "root_id": "r"}).retval

    assert json.loads(ours) == json.loads(plain)
    assert json.loads(ours)["headers"]["parent_id"] == "p"


def test_recording_sends_nothing(hand: Hand) -> None:
    Dispatcher(celery).message("pipelit.run_step", ARGS, task_id="t", queue="default")

    assert hand.waiting() == []


def test_the_calls_of_the_journal_writer_differ_in_their_delivery_tag_alone(hand: Hand) -> None:
    first, second = (json.loads(engine().dispatcher.drain(is_urgent=True).payload) for _ in range(2))

    tags = {message["properties"].pop("delivery_tag") for message in (first, second)}

    assert first == second
    assert len(tags) == 2


@pytest.mark.parametrize("step", [StepId("a"), StepId("a", (("loop", 3), ("inner", 0)))])
def test_the_id_of_a_task_names_its_attempt_and_can_be_read_back(step: StepId) -> None:
    task = TaskId("b2fe04ff-03e5-4b88-a257-63a6e36b4502", step, 2)

    assert TaskId.parse(str(task)) == task


def test_a_message_carries_what_a_worker_needs_to_find_its_plan(hand: Hand) -> None:
    task = TaskId("b2fe04ff", StepId("greet"), 1)

    message = engine().dispatcher.step(task, meta=Meta("4ff2", 7, "story", 12, "chained"), due_ms=34, lane="llm")

    assert message.key == "llm"
    assert json.loads(message.payload)["headers"]["id"] == "b2fe04ff:greet::a1"
