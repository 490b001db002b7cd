"""The broker goes away and comes back; people who watch notice nothing but a pause."""

import pytest
from flask import Flask
from redis.exceptions import RedisError

from pipelit.extensions import db
from pipelit.models import UserProfile
from pipelit.services import executions
from tests.live.conftest import Connect, Emit, Server, wait_until
from tests.support.callers import Caller
from tests.support.workflows import build


@pytest.fixture
def redis_url(server: Server) -> str:
    """A server that the test may kill."""
    return server.settings.redis_url


def test_what_happened_during_an_outage_is_told_after_it(
    app: Flask, server: Server, admin: Caller, connect: Connect, emit: Emit
) -> None:
    with app.app_context():
        workflow = build({"start": ("trigger_manual", {})}, "", name="Short")
        row = executions.start(workflow.slug, by=db.session.get_one(UserProfile, admin.id))
        db.session.remove()
    watcher = connect(admin.key)
    watcher.subscribe(f"execution:{row.execution_id}", after=0)
    before = watcher.hear()["seq"]
    while not watcher.is_silent():
        before += 1

    server.kill()
    wait_until(lambda: not _answers(app))
    watcher.say(type="subscribe", channel="workflow:short")
    assert watcher.hear()["code"] == "unavailable"
    server.start()
    for seq in range(100, 110):
        emit(row.execution_id, seq)

    assert [watcher.hear(10)["seq"] for _ in range(10)] == list(range(100, 110))
    assert watcher.is_silent()


def _answers(app: Flask) -> bool:
    try:
        return bool(app.extensions["pipelit.redis"].ping())
    except RedisError:
        return False
