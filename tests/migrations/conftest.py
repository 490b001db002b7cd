"""A database at any revision, and folders of migrations with one more in them."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask_migrate import Migrate, downgrade, upgrade
from sqlalchemy import Engine

from pipelit.extensions import db
from pipelit.launcher.stored import MIGRATIONS

THROW_AWAY = """
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{last}"


def upgrade():
{up}


def downgrade():
{down}
"""


@pytest.fixture
def database(empty_database_url: str) -> Iterator[Engine]:
    """An empty database, within an application that knows nothing but it."""
    app = Flask("migrating")
    app.config["SQLALCHEMY_DATABASE_URI"] = empty_database_url
    db.init_app(app)
    Migrate(app, db)
    with app.app_context():
        yield db.engine
        db.engine.dispose()


@pytest.fixture
def migrate_to(database: Engine) -> Callable[..., None]:
    """Bring the database up, or with `down` down, to a revision of a folder of migrations."""

    def run(revision: str, *, folder: Path = MIGRATIONS, down: bool = False) -> None:
        (downgrade if down else upgrade)(directory=str(folder), revision=revision)

    return run


@pytest.fixture
def one_more(tmp_path: Path) -> Callable[..., Path]:
    """A copy of the migrations with one more at the end, which is thrown away after the test."""

    def make(up: str, down: str = "pass") -> Path:
        folder = Path(
            shutil.copytree(MIGRATIONS, tmp_path / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
        )
        last = max(file.name.partition("_")[0] for file in (folder / "versions").glob("*.py"))
        bodies = {"up": _indented(up), "down": _indented(down), "last": last}
        (folder / "versions" / "9999_one_more.py").write_text(THROW_AWAY.format(**bodies))
        return folder

    return make


def _indented(body: str) -> str:
    return "\n".join(f"    {line}" for line in body.strip().splitlines())
