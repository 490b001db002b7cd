"""A database of its own for every test: a copy of one that was migrated once."""

import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url

from pipelit.config import Settings
from tests.support.application import KEYS


@pytest.fixture
def empty_database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables."""
    if database_kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server = request.getfixturevalue("postgresql_server")
    name = _create(server, template="template1")
    yield _named(server, name)
    _drop(server, name)


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database with every table and no rows, which no other test sees."""
    template = request.getfixturevalue(f"{database_kind}_template")
    if database_kind == "sqlite":
        yield f"sqlite:///{shutil.copy(template, tmp_path / 'test.db')}"
        return
    server = request.getfixturevalue("postgresql_server")
    name = _create(server, template=template)
    yield _named(server, name)
    _drop(server, name)


@pytest.fixture(scope="session")
def sqlite_template(
    tmp_path_factory: pytest.TempPathFactory, redis_server: str, migrate: Callable[[str], None]
) -> Path:
    file = tmp_path_factory.mktemp("template") / "migrated.db"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: str, migrate: Callable[[str], None]) -> str:
    name = _create(postgresql_server, template="template1")
    migrate(_named(postgresql_server, name))
    return name


@pytest.fixture(scope="session")
def migrate(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], None]:
    """Bring the database of a URL to the newest revision, the way `pipelit migrate` does."""
    home = tmp_path_factory.mktemp("home")

    def run(url: str) -> None:
        from pipelit.app import create_app
        from pipelit.extensions import db
        from pipelit.launcher import database

        app = create_app(
            Settings.load({**KEYS, "PIPELIT_HOME": str(home), "DATABASE_URL": url, "REDIS_URL": redis_server})
        )
        with app.app_context():
            database.upgrade()
            db.session.remove()
            db.engine.dispose()

    return run


def _create(server: str, *, template: str) -> str:
    name = f"test_{uuid.uuid4().hex}"
    _command(server, SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template)))
    return name


def _drop(server: str, name: str) -> None:
    _command(server, SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def _command(server: str, statement: psycopg.sql.Composed) -> None:
    with psycopg.connect(server.replace("+psycopg", "", 1), autocommit=True) as connection:
        connection.execute(statement)


def _named(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)
