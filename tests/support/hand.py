"""The broker in a test's hand: real messages on a real server, delivered one by one, in any order, or not at all."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from redis import Redis

from pipelit import tasks
from pipelit.extensions import celery

QUEUES = ("default", "llm", "triggers", "schedules", "maintenance")


@dataclass(frozen=True)
class Delivery:
    """One message as a worker would get it."""

    queue: str
    task_id: str
    name: str
    args: list[Any]

    @classmethod
    def read(cls, queue: str, payload: str) -> "Delivery":
        message = json.loads(payload)
        args, _kwargs, _embed = json.loads(base64.b64decode(message["body"]))
        return cls(queue, message["headers"]["id"], message["headers"]["task"], args)


class Hand:
    """Takes messages off the queues and runs their tasks in this process."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.redis: Redis = app.extensions["pipelit.redis"]
        self.delivered: list[Delivery] = []
        tasks.use(app)

    def waiting(self, queue: str = "default") -> list[Delivery]:
        """What stands in a queue, the next one first."""
        return [Delivery.read(queue, payload) for payload in reversed(self.redis.lrange(queue, 0, -1))]

    def take(self, queue: str = "default") -> Delivery | None:
        """Take the next message off a queue without running it."""
        payload = self.redis.rpop(queue)
        return None if payload is None else Delivery.read(queue, payload)

    def take_newest(self, queue: str = "default") -> Delivery | None:
        """Take the message off a queue that came last."""
        payload = self.redis.lpop(queue)
        return None if payload is None else Delivery.read(queue, payload)

    def run(self, delivery: Delivery) -> None:
        """Run a delivery's task, as often as one likes."""
        self.delivered.append(delivery)
        celery.tasks[delivery.name].run(*delivery.args)

    def deliver(self, queue: str = "default") -> Delivery | None:
        """Take the next message and run it."""
        delivery = self.take(queue)
        if delivery is not None:
            self.run(delivery)
        return delivery

    def run_all(self, *, until: Callable[[], bool] = lambda: False, most: int = 5_000) -> int:
        """Deliver until the queues are empty; countdowns run at once."""
        for count in range(most):
            if until() or not any(self.deliver(queue) for queue in QUEUES):
                return count
        raise AssertionError(f"still not idle after {most} deliveries")


@pytest.fixture
def hand(app: Flask) -> Iterator[Hand]:
    """The broker in the test's hand, inside an application context."""
    with app.app_context():
        yield Hand(app)
