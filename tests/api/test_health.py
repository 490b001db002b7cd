"""Probes and figures."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from prometheus_client import CONTENT_TYPE_LATEST
from redis import Redis

from celeryconfig import ALL, lane
from pipelit import clock
from pipelit.app import create_app
from pipelit.config import Settings
from pipelit.engine import keys
from pipelit.extensions import db
from pipelit.services.health import Sign
from tests.support.callers import Caller


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


def test_a_process_that_answers_is_alive(anonymous: Caller) -> None:
    assert anonymous.get("/health/").json["status"] == "ok"
    assert anonymous.get("/health").status_code == 200


def test_without_a_worker_it_is_not_ready(anonymous: Caller, redis: Redis) -> None:
    redis.hset(keys.WORKERS, "gone@host", str(Sign(clock.now_ms() - 31_000, ALL.queues)))

    answer = anonymous.get("/health/ready/")

    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
    assert list(answer.json["errors"]) == ["worker-steps", "worker-system"]


@pytest.mark.parametrize(("there", "lacking"), [("steps", "system"), ("system", "steps")])
def test_a_lane_without_a_worker_is_named(anonymous: Caller, redis: Redis, there: str, lacking: str) -> None:
    redis.hset(keys.WORKERS, f"{there}@host", str(Sign(clock.now_ms(), lane(there).queues)))

    answer = anonymous.get("/health/ready/")

    assert answer.status_code == 503
    assert answer.json["errors"].keys() == {f"worker-{lacking}"}
    assert f"'{lacking}'" in answer.json["detail"]


@pytest.mark.parametrize("lanes", [["steps", "system"], ["all"]])
def test_with_every_lane_served_it_is_ready(anonymous: Caller, redis: Redis, lanes: list[str]) -> None:
    for name in lanes:
        redis.hset(keys.WORKERS, f"{name}@host", str(Sign(clock.now_ms(), lane(name).queues)))

    assert anonymous.get("/health/ready/").json == {"status": "ready"}


def test_every_server_that_is_gone_is_named(settings: Settings, tmp_path: Path) -> None:
    gone = replace(
        settings, redis_url=f"unix://{tmp_path}/nothing.sock", database_url=f"sqlite:///{tmp_path}/no/folder/x.db"
    )
    app = create_app(gone)

    answer = app.test_client().get("/api/v1/health/ready/")

    assert answer.status_code == 503
    assert set(answer.json["errors"]) == {"database", "broker", "worker-steps", "worker-system"}
    assert app.test_client().get("/api/v1/health/").status_code == 200
    with app.app_context():
        db.engine.dispose()


def test_the_figures_say_how_much_work_there_is(app: Flask, normal: Caller, redis: Redis) -> None:
    redis.hset(keys.WORKERS, "steps@host", str(Sign(clock.now_ms(), ("default",))))
    redis.lpush("default", "a", "b", "c")

    answer = normal.get("/metrics")

    assert answer.content_type == CONTENT_TYPE_LATEST
    assert 'pipelit_queue_messages{queue="default"} 3.0' in answer.text
    assert 'pipelit_queue_messages{queue="maintenance"} 0.0' in answer.text
    assert 'pipelit_executions_live{status="running"} 0.0' in answer.text
    assert "pipelit_workers 1.0" in answer.text


def test_the_figures_are_where_scrapers_look_and_ask_for_a_key(app: Flask, normal: Caller) -> None:
    client = app.test_client()

    assert client.get("/metrics").status_code == 401
    assert client.get("/api/v1/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": f"Bearer {normal.key}"}).status_code == 200
