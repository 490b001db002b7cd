"""Callers of the API: each with a key of their own, or none."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

PREFIX = "/api/v1"

Person = Callable[..., "Caller"]


@dataclass
class Caller:
    """Sends requests beneath `/api/v1` with a key; an empty key is not sent."""

    client: FlaskClient
    key: str = ""
    username: str = ""
    id: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.send("GET", path, **options)

    def post(self, path: str, json: object = None, **options: Any) -> TestResponse:
        return self.send("POST", path, json=json, **options)

    def put(self, path: str, json: object = None, **options: Any) -> TestResponse:
        return self.send("PUT", path, json=json, **options)

    def patch(self, path: str, json: object = None, **options: Any) -> TestResponse:
        return self.send("PATCH", path, json=json, **options)

    def delete(self, path: str, **options: Any) -> TestResponse:
        return self.send("DELETE", path, **options)

    def send(self, method: str, path: str, **options: Any) -> TestResponse:
        """Any request; headers that are given win."""
        own = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        headers = {**own, **self.headers, **options.pop("headers", {})}
        if options.get("json") is None:
            options.pop("json", None)
        return self.client.open(PREFIX + path, method=method, headers=headers, **options)


@pytest.fixture
def person(app: Flask) -> Person:
    """Makes a caller who exists: `person("grace")`, `person("ada", role="admin")`. They have a key and no password."""
    from pipelit import clock
    from pipelit.extensions import db, transaction
    from pipelit.models import UserProfile
    from pipelit.services import tokens

    def make(username: str, role: str = "normal") -> Caller:
        with app.app_context():
            with transaction() as session:
                user = UserProfile(username=username, role=role)
                session.add(user)
                session.flush()
                made = tokens.issue(session, user.id, "test", clock.now())
            db.session.remove()
            return Caller(app.test_client(), made.key, username, user.id)

    return make


@pytest.fixture
def admin(person: Person) -> Caller:
    """An administrator."""
    return person("ada", role="admin")


@pytest.fixture
def normal(person: Person) -> Caller:
    """A user without special rights."""
    return person("grace")


@pytest.fixture
def stranger(person: Person) -> Caller:
    """Another user without special rights, who shares nothing with anybody."""
    return person("mallory")


@pytest.fixture
def anonymous(app: Flask) -> Caller:
    """Somebody without a key."""
    return Caller(app.test_client())
