"""The application on real servers, in the test's own process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from pipelit.config import Settings

# Fixed, so that a failure looks the same every time; they protect nothing.
KEYS = {
    "FIELD_ENCRYPTION_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "SECRET_KEY": "only-for-tests-only-for-tests",
}


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Settings of a test: its own database, its own server, its own home."""
    return Settings.load(
        {**KEYS, "PIPELIT_HOME": str(tmp_path / "home"), "DATABASE_URL": database_url, "REDIS_URL": redis_url}
    )


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    """The application, outside any context; its connections are closed when the test ends."""
    from pipelit.app import create_app
    from pipelit.extensions import db

    app = create_app(settings)
    yield app
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """An HTTP client of the application, without a key."""
    return app.test_client()
