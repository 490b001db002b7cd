"""How Alembic runs our migrations: in one transaction, one process at a time, and on SQLite without losing children.

SQLite cannot alter most of a table, so a batch migration copies it, drops the old one and renames the copy. With
foreign keys on, that drop would delete every row that refers to the table; so they are off while migrations run, and
checked as a whole before anything is committed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alembic import context
from alembic.autogenerate.api import AutogenContext
from flask import current_app
from sqlalchemy import Connection, Engine

from pipelit.extensions import WRITE
from pipelit.models import Base
from pipelit.models.types import EncryptedString, UtcDateTime

LOCK = 0x5069_7065
"""The advisory lock of PostgreSQL that a migrating process holds: a second one waits and finds nothing to do."""


class OrphanedRows(Exception):
    """A migration left rows that refer to nothing; it is undone."""


def run_online(engine: Engine) -> None:
    """Migrate the database of the application."""
    with engine.connect() as plain:
        connection = plain.execution_options(**{WRITE: True})
        with _without_foreign_keys(connection):
            context.configure(connection=connection, **_options(connection.dialect.name))
            with context.begin_transaction():
                if connection.dialect.name == "postgresql":
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
                context.run_migrations()
                _check_foreign_keys(connection)


def run_offline(engine: Engine) -> None:
    """Print the SQL that a migration would run (`--sql`)."""
    context.configure(url=engine.url, literal_binds=True, **_options(engine.dialect.name))
    with context.begin_transaction():
        context.run_migrations()


def _options(dialect: str) -> dict[str, Any]:
    return {
        "target_metadata": Base.metadata,
        "render_as_batch": dialect == "sqlite",
        "render_item": _render,
        "compare_type": True,
        "compare_server_default": True,
        # Alembic takes SQLite's DDL for non-transactional because of how the driver used to begin; we begin ourselves.
        "transactional_ddl": True,
    }


def _render(kind: str, item: object, _script: AutogenContext) -> str | bool:
    """Write our column types as what they are in the database, so that a migration does not import the application."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, EncryptedString):
        return f"sa.String({item.impl.length})"
    return False


@contextmanager
def _without_foreign_keys(connection: Connection) -> Iterator[None]:
    """SQLite ignores this pragma inside a transaction, so it goes to the driver before one has begun."""
    if connection.dialect.name != "sqlite":
        yield
        return
    driver = connection.connection.driver_connection
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys=ON")


def _check_foreign_keys(connection: Connection) -> None:
    """Refuse, and thereby roll back, a migration that left a row referring to nothing."""
    if connection.dialect.name != "sqlite":
        return
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        tables = ", ".join(sorted({f"{table} → {parent}" for table, _row, parent, _key in broken}))
        raise OrphanedRows(f"The migration would leave {len(broken)} row(s) that refer to nothing: {tables}.")


if context.is_offline_mode():
    run_offline(current_app.extensions["migrate"].db.engine)
else:
    run_online(current_app.extensions["migrate"].db.engine)
