"""Schemathesis reads the API's document and tries everything in it, as an administrator: it may find nothing."""

import uuid
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, settings
from redis import Redis
from schemathesis.config import SchemathesisConfig

from celeryconfig import ALL
from pipelit import clock
from pipelit.api.idempotency import HEADER, VISIBLE_ASCII
from pipelit.engine import keys
from pipelit.services.health import Sign
from tests.api.world import HEADERS, World
from tests.support.examples import examples

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
CONFIG = SchemathesisConfig.from_path(Path(__file__).with_name("schemathesis.toml"))
BOUNDS, JOURNEYS = (examples(count, suppress_health_check=list(HealthCheck)) for count in (12, 10))


class Door:
    """The WSGI application that Schemathesis knows before there is one; behind it is that of the test that runs."""

    app: Flask

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.app.wsgi_app(environ, start_response)


door = Door()
# The committed document is the present one: test_openapi.py sees to that.
api = schemathesis.openapi.from_path(str(DOCUMENT), config=CONFIG)
api.app = door


@pytest.fixture
def world(app: Flask, redis_url: str) -> World:
    """An installation with a bit of everything, and a worker for everything that is always there."""
    with Redis.from_url(redis_url) as redis:
        redis.hset(keys.WORKERS, "all@test", str(Sign(clock.now_ms() + 10**9, ALL.queues)))
    door.app = app
    settled = World(app)
    settled.build()
    return settled


@api.parametrize()
@BOUNDS
def test_nothing_is_found_in(case: schemathesis.Case, world: World) -> None:
    world.mend()
    make_headers_fit(case)

    case.call_and_validate(headers=HEADERS)


def test_nothing_is_found_by_following_answers(world: World) -> None:
    class Traveller(api.as_state_machine()):  # type: ignore[misc]  # the base is made at run time
        def setup(self) -> None:
            # Never between two steps: what the first made, the second looks for.
            world.mend()

        def before_call(self, case: schemathesis.Case) -> None:
            make_headers_fit(case)

        def get_call_kwargs(self, case: schemathesis.Case) -> dict[str, Any]:
            return {"headers": HEADERS}

        def validate_response(self, response: Any, case: schemathesis.Case, **options: Any) -> None:
            # Told where the key came from, Schemathesis also tries without it.
            case.validate_response(response, headers=HEADERS, transport_kwargs=options, recorder=self.recorder)

    Traveller.run(settings=settings(JOURNEYS, stateful_step_count=8))


def make_headers_fit(case: schemathesis.Case) -> None:
    """What no schema can say: a key of an earlier request is a mistake, and only a present version may be changed."""
    headers = case.headers or {}
    if VISIBLE_ASCII.fullmatch(str(headers.get(HEADER, ""))):
        headers[HEADER] = uuid.uuid4().hex
    if "If-Match" in headers:
        headers["If-Match"] = "*"
