"""People watch workflows and executions over the WebSocket."""

import threading

import pytest
from flask import Flask

from pipelit import clock
from pipelit.api.live import Live
from pipelit.engine import broadcast
from pipelit.engine.runtime import engine
from pipelit.extensions import db
from pipelit.models import UserProfile, Workflow, WorkflowExecution
from pipelit.services import executions
from tests.live.conftest import Connect, Emit, wait_until
from tests.support.callers import Caller, Person
from tests.support.hand import Hand
from tests.support.workflows import build


@pytest.fixture
def workflow(hand: Hand, admin: Caller) -> Workflow:
    """A workflow of two nodes, owned by the administrator."""
    nodes = {"start": ("trigger_manual", {}), "greet": ("template", {"template": "Hello {{ trigger.text }}"})}
    return build(nodes, "start -> greet", by=_user(admin), name="Greeting")


@pytest.fixture
def execution(workflow: Workflow, admin: Caller) -> WorkflowExecution:
    """An execution that has not run yet."""
    return executions.start(workflow.slug, by=_user(admin), text="Ada")


def test_a_client_sees_a_run_from_its_start_to_its_end(
    hand: Hand, workflow: Workflow, admin: Caller, connect: Connect
) -> None:
    watcher = connect(admin.key)
    channel = f"workflow:{workflow.slug}"
    watcher.subscribe(channel)

    row = executions.start(workflow.slug, by=_user(admin), text="Ada")
    hand.run_all()

    events = watcher.hear_all(5)
    assert {event["channel"] for event in events} == {channel}
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5]
    assert [_told(event) for event in events] == [
        ("execution_started", None, "running"),
        ("node_status", "start", "success"),
        ("node_status", "greet", "running"),
        ("node_status", "greet", "success"),
        ("execution_completed", None, "completed"),
    ]
    assert events[-1]["data"]["execution_id"] == row.execution_id
    assert events[-1]["data"]["output"] == "Hello Ada"
    assert all(event["timestamp"].endswith("Z") for event in events)


def test_a_client_that_comes_back_gets_what_it_missed_and_nothing_twice(
    hand: Hand, execution: WorkflowExecution, admin: Caller, connect: Connect
) -> None:
    channel = f"execution:{execution.execution_id}"
    first = connect(admin.key)
    first.subscribe(channel, after=0)
    assert [event["seq"] for event in first.hear_all(2)] == [1, 2]
    first.socket.close()

    hand.run_all()

    second = connect(admin.key)
    second.subscribe(channel, after=2)
    assert [event["seq"] for event in second.hear_all(3)] == [3, 4, 5]
    assert second.is_silent()


def test_between_replay_and_live_there_is_neither_gap_nor_repeat(
    execution: WorkflowExecution, admin: Caller, connect: Connect, emit: Emit
) -> None:
    execution_id = execution.execution_id
    last = newest_of(execution_id)
    goal = last + 600
    watcher = connect(admin.key)
    engine = threading.Thread(target=lambda: [emit(execution_id, seq) for seq in range(last + 1, goal + 1)])

    engine.start()
    wait_until(lambda: newest_of(execution_id) > last + 100)
    watcher.subscribe(f"execution:{execution_id}", after=last)

    assert [event["seq"] for event in watcher.hear_all(600)] == list(range(last + 1, goal + 1))
    engine.join()
    assert watcher.is_silent()


def test_without_a_number_only_the_future_is_told(
    execution: WorkflowExecution, admin: Caller, connect: Connect, emit: Emit
) -> None:
    last = newest_of(execution.execution_id)
    watcher = connect(admin.key)

    watcher.subscribe(f"execution:{execution.execution_id}")

    assert watcher.is_silent()
    emit(execution.execution_id, last + 1)
    assert watcher.hear()["seq"] == last + 1


def test_an_event_that_was_skipped_on_the_way_is_fetched(
    app: Flask, execution: WorkflowExecution, admin: Caller, connect: Connect, emit: Emit
) -> None:
    last = newest_of(execution.execution_id)
    watcher = connect(admin.key)
    watcher.subscribe(f"execution:{execution.execution_id}")
    app.extensions["pipelit.redis"].xadd(
        broadcast.stream_key(execution.execution_id), {"e": '{"type":"lost","data":{}}'}, id=f"{last + 1}-0"
    )

    emit(execution.execution_id, last + 2)

    assert [event["seq"] for event in watcher.hear_all(2)] == [last + 1, last + 2]


def test_an_event_without_a_number_goes_to_who_watches_now(
    app: Flask, execution: WorkflowExecution, admin: Caller, connect: Connect
) -> None:
    channel = f"execution:{execution.execution_id}"
    watcher = connect(admin.key)
    watcher.subscribe(channel)

    broadcast.publish(app.extensions["pipelit.redis"], channel, "token", {"text": "Hel"}, clock.now())

    event = watcher.hear()
    assert (event["type"], event["data"], "seq" in event) == ("token", {"text": "Hel"}, False)


def test_after_unsubscribing_nothing_more_comes(
    app: Flask, workflow: Workflow, admin: Caller, connect: Connect, live: Live
) -> None:
    channel = f"workflow:{workflow.slug}"
    watcher = connect(admin.key)
    watcher.subscribe(channel)

    watcher.say(type="unsubscribe", channel=channel)

    assert watcher.hear() == {"type": "unsubscribed", "channel": channel}
    broadcast.publish(app.extensions["pipelit.redis"], channel, "node_created", {}, clock.now())
    assert watcher.is_silent()
    wait_until(lambda: app.extensions["pipelit.redis"].pubsub_numsub(broadcast.PREFIX + channel)[0][1] == 0)


def test_many_clients_share_one_subscription_of_their_process(
    app: Flask, workflow: Workflow, admin: Caller, connect: Connect
) -> None:
    channel = f"workflow:{workflow.slug}"
    watchers = [connect(admin.key) for _ in range(20)]
    for watcher in watchers:
        watcher.subscribe(channel)
    redis = app.extensions["pipelit.redis"]

    broadcast.publish(redis, channel, "workflow_updated", {"slug": workflow.slug}, clock.now())

    assert [watcher.hear()["type"] for watcher in watchers] == ["workflow_updated"] * 20
    assert redis.pubsub_numsub(broadcast.PREFIX + channel)[0][1] == 1


def test_only_who_may_see_a_workflow_may_watch_it(
    workflow: Workflow, execution: WorkflowExecution, stranger: Caller, person: Person, connect: Connect
) -> None:
    outsider = connect(stranger.key)

    for channel in (f"workflow:{workflow.slug}", f"execution:{execution.execution_id}"):
        outsider.say(type="subscribe", channel=channel)
        refused = outsider.hear()
        assert (refused["type"], refused["code"], refused["channel"]) == ("error", "not_found", channel)

    other = connect(person("eve", role="admin").key)
    other.subscribe(f"workflow:{workflow.slug}")


@pytest.mark.parametrize(
    "channel", ["workflow:nowhere", "execution:nobody", "execution:\0", "workflow:\0", "workflow:"]
)
def test_a_channel_that_is_not_there_is_an_error(admin: Caller, connect: Connect, channel: str) -> None:
    watcher = connect(admin.key)

    watcher.say(type="subscribe", channel=channel)

    assert (watcher.hear()["type"], watcher.is_silent()) == ("error", True)


def newest_of(execution_id: str) -> int:
    return broadcast.newest(engine().redis, execution_id)


def _user(caller: Caller) -> UserProfile:
    user = db.session.get(UserProfile, caller.id)
    assert user is not None
    db.session.expunge(user)
    return user


def _told(event: dict[str, dict[str, str]]) -> tuple[object, object, object]:
    return event["type"], event["data"].get("node_id"), event["data"]["status"]
