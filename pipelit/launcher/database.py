"""The database before anything starts: can it be opened, is it up to date, can its secrets be read."""

from pathlib import Path

from flask import current_app
from flask_migrate import Migrate
from flask_migrate import upgrade as upgrade_with_alembic
from sqlalchemy import create_engine, make_url, select, text
from sqlalchemy.exc import SQLAlchemyError

import pipelit
from pipelit.config import Settings
from pipelit.errors import CredentialError, SettingsError
from pipelit.extensions import db
from pipelit.launcher.checks import first_line
from pipelit.models.types import Base, EncryptedString

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
        for table in Base.metadata.sorted_tables:
            for column in table.columns:
                if isinstance(column.type, EncryptedString):
                    db.session.execute(select(column)).all()
    except CredentialError:
        raise SettingsError(
            "FIELD_ENCRYPTION_KEY cannot read the credentials stored in this database: "
            "add the key they were stored with, after a comma."
        ) from None
    finally:
        db.session.rollback()


def upgrade() -> None:
    """Bring the database to the newest revision. Needs an application context."""
    # Bound here and not in `create_app`: Alembic would take 10 MB in every server and worker process.
    Migrate(current_app, db, directory=str(MIGRATIONS))
    upgrade_with_alembic()
