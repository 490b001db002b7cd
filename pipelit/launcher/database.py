"""The database before anything starts: can it be opened, is it up to date, can its secrets be read."""

from pathlib import Path

import flask_migrate
from sqlalchemy import create_engine, make_url, select, text
from sqlalchemy.exc import SQLAlchemyError

import pipelit
from pipelit.config import Settings
from pipelit.errors import CredentialError, SettingsError
from pipelit.extensions import db
from pipelit.launcher.checks import first_line
from pipelit.models.credential import encrypted_columns
from pipelit.models.types import Base

MIGRATIONS = Path(pipelit.__file__).parent.parent / "migrations"


def check(settings: Settings) -> None:
    """Refuse a database that cannot be opened."""
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and url.database:
        try:
            Path(url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"DATABASE_URL: the folder of {url.database} cannot be made ({error.strerror})."
            ) from None
    engine = create_engine(url, connect_args={"connect_timeout": 10} if url.get_backend_name() == "postgresql" else {})
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        raise SettingsError(f"DATABASE_URL: the database cannot be opened ({first_line(error)}).") from None
    finally:
        engine.dispose()


def check_encryption_keys() -> None:
    """Refuse keys that cannot read what is stored. Needs an application context and a migrated database."""
    try:
        for mapper in Base.registry.mappers:
            for name in encrypted_columns(mapper.class_):
                db.session.execute(select(mapper.local_table.columns[name])).all()
    except CredentialError:
        raise SettingsError(
            "FIELD_ENCRYPTION_KEY cannot read the credentials stored in this database: "
            "add the key they were stored with, after a comma."
        ) from None
    finally:
        db.session.rollback()


def upgrade() -> None:
    """Bring the database to the newest revision. Needs an application context."""
    flask_migrate.upgrade(directory=str(MIGRATIONS))
