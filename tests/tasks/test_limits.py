"""A workflow's limit, while real processes that run its executions die and the server loses what it had."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from itertools import groupby

import pytest

from pipelit.engine.groups import GroupKeys
from pipelit.extensions import transaction
from pipelit.models import UserProfile, Workflow, WorkflowExecution
from pipelit.services import executions
from tests.integrations.web import Asked, Web, reply, serving
from tests.support.crew import Crew
from tests.support.product import wait_until
from tests.support.workflows import build

PATIENCE = 120.0


@dataclass
class Turnstile:
    """A web server that answers the requests of an execution once the story lets it through."""

    web: Web
    opened: dict[str, threading.Event] = field(default_factory=lambda: defaultdict(threading.Event))

    def asked(self) -> list[str]:
        """The executions that have asked, in this order; attempts of one follow one another."""
        return [execution for execution, _ in groupby(map(execution_of, list(self.web.asked)))]


def execution_of(asked: Asked) -> str:
    return asked.headers["idempotency-key"].split("/")[0]


@contextmanager
def turnstile() -> Iterator[Turnstile]:
    found: list[Turnstile] = []

    def answer(handler: BaseHTTPRequestHandler, asked: Asked) -> None:
        found[0].opened[execution_of(asked)].wait(PATIENCE)
        reply(handler, body=b"done", headers={"Content-Type": "text/plain"})

    with serving(answer) as web:
        found.append(Turnstile(web))
        try:
            yield found[0]
        finally:
            for opened in list(found[0].opened.values()):
                opened.set()


def limited(web: Web, limit: int) -> Workflow:
    nodes = {"start": ("trigger_manual", {}), "call": ("http_request", {"url": web.url(), "method": "POST"})}
    return build(nodes, "start -> call", max_concurrent=limit)


@pytest.fixture
def ada(crew: Crew) -> UserProfile:
    with transaction() as session:
        user = UserProfile(username="ada", role="admin")
        session.add(user)
    return user


def test_a_limit_holds_while_workers_are_killed_and_nobody_is_forgotten(crew: Crew, ada: UserProfile) -> None:
    with turnstile() as there:
        steps, system = crew.start("steps", "system")
        workflow = limited(there.web, 1)
        rows = [executions.start(workflow.slug, by=ada) for _ in range(4)]
        ids = [row.execution_id for row in rows]

        for number in range(len(rows)):
            wait_until(
                lambda number=number: there.asked() == ids[: number + 1],  # type: ignore[misc]
                f"execution {number} is the next to ask, and the only one",
                seconds=PATIENCE,
                or_else=crew.said,
            )
            if number == 1:
                steps.kill()
                (steps,) = crew.start("steps")
            if number == 2:
                system.kill()
                (system,) = crew.start("system")
            there.opened[ids[number]].set()
            crew.wait_for(rows[number], seconds=PATIENCE)

    assert there.asked() == ids


def test_a_limit_holds_when_the_server_has_lost_everything(crew: Crew, ada: UserProfile) -> None:
    with turnstile() as there:
        crew.start("steps", "steps", "system")
        redis = crew.app.extensions["pipelit.redis"]
        workflow = limited(there.web, 2)
        rows = [executions.start(workflow.slug, by=ada) for _ in range(5)]
        group = GroupKeys.of(str(rows[0].concurrency_group))
        wait_until(lambda: len(there.asked()) == 2, "two of them run", seconds=PATIENCE, or_else=crew.said)
        for row in rows[:2]:
            crew.wait_for(row, "running", seconds=PATIENCE)

        redis.flushall()
        wait_until(lambda: redis.zcard(group.live) == 2, "they are counted", seconds=PATIENCE, or_else=crew.said)
        assert len(set(there.asked())) == 2
        for row in rows:
            there.opened[row.execution_id].set()

        def are_over() -> bool:
            assert redis.zcard(group.live) <= 2
            return all(_status(crew, row) == "completed" for row in rows)

        wait_until(are_over, "all of them end", seconds=PATIENCE, or_else=crew.said)

    assert set(there.asked()) == {row.execution_id for row in rows}


def _status(crew: Crew, row: WorkflowExecution) -> str:
    return crew.outcome(row).status
