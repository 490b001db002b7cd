"""What a start finds out about its database before it loads anything that uses it."""

from dataclasses import replace

from alembic.script import ScriptDirectory
from flask import Flask
from sqlalchemy import text

from pipelit.config import Settings
from pipelit.extensions import db, transaction
from pipelit.launcher import stored
from pipelit.services import samples


def test_the_newest_revision_is_the_head_that_alembic_would_go_to() -> None:
    assert stored.newest_revision() == ScriptDirectory(str(stored.MIGRATIONS)).get_current_head()


def test_a_new_database_is_to_be_prepared(settings: Settings, empty_database_url: str) -> None:
    empty = replace(settings, database_url=empty_database_url)

    stored.check(empty)

    assert not stored.is_prepared(empty)


def test_a_migrated_one_is_to_be_prepared_until_it_has_its_first_workflow(app: Flask, settings: Settings) -> None:
    assert not stored.is_prepared(settings)

    with app.app_context():
        samples.seed()
        db.session.remove()

    assert stored.is_prepared(settings)


def test_one_of_an_older_version_is_to_be_prepared(app: Flask, settings: Settings) -> None:
    with app.app_context():
        samples.seed()
        with transaction() as session:
            session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
        db.session.remove()

    assert not stored.is_prepared(settings)
