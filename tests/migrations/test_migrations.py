"""Migrations keep every row, keep to the models, and happen entirely or not at all."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect

from pipelit.launcher.stored import MIGRATIONS
from pipelit.models import Base
from tests.migrations.rows import count, populate

Migrate = Callable[..., None]
OneMore = Callable[..., Path]

REBUILD_WORKFLOWS = """
with op.batch_alter_table("workflows") as table:
    table.add_column(sa.Column("colour", sa.String(20), nullable=False, server_default="blue"))
    table.alter_column("name", existing_type=sa.String(255), type_=sa.String(300))
"""
UNDO_WORKFLOWS = """
with op.batch_alter_table("workflows") as table:
    table.drop_column("colour")
    table.alter_column("name", existing_type=sa.String(300), type_=sa.String(255))
"""
MIGRATE_ONCE = """
import sys
from flask import Flask
from flask_migrate import Migrate, upgrade
from pipelit.extensions import db
app = Flask("migrating")
app.config["SQLALCHEMY_DATABASE_URI"] = sys.argv[1]
db.init_app(app)
Migrate(app, db)
with app.app_context():
    upgrade(directory=sys.argv[2])
"""


def test_the_migrations_end_at_the_models(database: Engine, migrate_to: Migrate) -> None:
    migrate_to("head")

    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_a_full_database_goes_down_to_nothing_and_up_again(database: Engine, migrate_to: Migrate) -> None:
    migrate_to("head")
    with database.begin() as connection:
        assert set(populate(connection)) == set(Base.metadata.tables)

    migrate_to("base", down=True)

    assert inspect(database).get_table_names() == ["alembic_version"]
    migrate_to("head")
    assert set(inspect(database).get_table_names()) == {*Base.metadata.tables, "alembic_version"}


@pytest.mark.parametrize(("status", "kept"), [("running", (77, "local", "sync")), ("failed", (None, None, "async"))])
def test_executions_under_way_keep_what_their_workflow_says(
    database: Engine, migrate_to: Migrate, status: str, kept: tuple[object, ...]
) -> None:
    migrate_to("0009")
    with database.begin() as connection:
        populate(connection)
        connection.exec_driver_sql(
            "UPDATE workflows SET max_execution_seconds = 77, placement = 'local', durability = 'sync'"
        )
        connection.exec_driver_sql(f"UPDATE workflow_executions SET status = '{status}', retried_from_step = NULL")

    migrate_to("0010")

    columns = "max_execution_seconds, placement, durability"
    with database.connect() as connection:
        assert connection.exec_driver_sql(f"SELECT {columns} FROM workflow_executions").one() == kept


def test_a_wish_that_an_older_version_could_not_carry_out_is_cancelled(database: Engine, migrate_to: Migrate) -> None:
    migrate_to("0012")
    with database.begin() as connection:
        populate(connection)
        connection.exec_driver_sql("UPDATE workflow_executions SET status = 'pending'")

    migrate_to("0011", down=True)

    with database.connect() as connection:
        assert connection.exec_driver_sql("SELECT status FROM workflow_executions").scalar_one() == "cancelled"


def test_rebuilding_a_table_keeps_the_rows_that_refer_to_it(
    database: Engine, migrate_to: Migrate, one_more: OneMore
) -> None:
    migrate_to("head")
    with database.begin() as connection:
        rows = populate(connection)
    before = _structure(database, "workflows")
    folder = one_more(REBUILD_WORKFLOWS, UNDO_WORKFLOWS)

    migrate_to("9999", folder=folder)

    with database.connect() as connection:
        assert count(connection) == rows
        assert connection.exec_driver_sql("SELECT colour, slug FROM workflows").one() == ("blue", "text")
    assert _structure(database, "workflows") == before
    migrate_to("-1", folder=folder, down=True)
    with database.connect() as connection:
        assert count(connection) == rows
    assert _structure(database, "workflows") == before


def test_a_migration_that_leaves_orphans_is_undone(database: Engine, migrate_to: Migrate, one_more: OneMore) -> None:
    migrate_to("head")
    with database.begin() as connection:
        rows = populate(connection)

    with pytest.raises(Exception, match=r"(?i)orphan|foreign key|refer to nothing"):
        migrate_to("9999", folder=one_more('op.execute("UPDATE workflow_edges SET workflow_id = 77")'))

    with database.connect() as connection:
        assert count(connection) == rows
        assert connection.exec_driver_sql("SELECT workflow_id FROM workflow_edges").scalar_one() == 1


def test_a_migration_that_fails_halfway_leaves_nothing(
    database: Engine, migrate_to: Migrate, one_more: OneMore
) -> None:
    migrate_to("head")
    folder = one_more('op.create_table("half", sa.Column("id", sa.Integer))\nraise ZeroDivisionError')

    with pytest.raises(ZeroDivisionError):
        migrate_to("9999", folder=folder)

    with database.connect() as connection:
        assert not inspect(connection).has_table("half")
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() != "9999"


def test_foreign_keys_hold_again_after_a_migration(database: Engine, migrate_to: Migrate) -> None:
    migrate_to("head")

    with database.connect() as connection, pytest.raises(Exception, match=r"(?i)foreign key"):
        connection.exec_driver_sql(
            "INSERT INTO execution_events (execution_id, events) VALUES ('nobody', 'x')"
            if database.dialect.name == "sqlite"
            else r"INSERT INTO execution_events (execution_id, events) VALUES ('nobody', '\x00')"
        )


def test_two_processes_may_migrate_at_once(database: Engine) -> None:
    url = database.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", MIGRATE_ONCE, url, str(MIGRATIONS)]

    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]

    ended = [(process.communicate(timeout=60)[1], process.returncode) for process in both]
    assert [code for _said, code in ended] == [0, 0], ended
    assert inspect(database).has_table("workflows")


def _structure(database: Engine, table: str) -> object:
    """Everything of a table but its columns, in a comparable form."""
    seen = inspect(database)
    keys = sorted((key["name"], key["referred_table"], str(key["options"])) for key in seen.get_foreign_keys(table))
    indexes = sorted(str(index["name"]) for index in seen.get_indexes(table))
    unique = sorted(str(found["name"]) for found in seen.get_unique_constraints(table))
    return keys, indexes, unique, seen.get_pk_constraint(table)["name"]
