"""What must be known of the database before anything starts, found out without loading the application.

Can it be opened, is there anything left to do in it, can its secrets be read. A start that finds everything in order
needs no more than this, and is faster for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, exists, make_url, select, text
from sqlalchemy.exc import SQLAlchemyError

import pipelit
from pipelit.config import Settings
from pipelit.errors import CredentialError, SettingsError
from pipelit.launcher.checks import first_line
from pipelit.models import Base, Workflow
from pipelit.models.types import EncryptedString, cipher

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
    try:
        with _connection(settings) as connection:
            connection.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        raise SettingsError(f"DATABASE_URL: the database cannot be opened ({first_line(error)}).") from None


def is_prepared(settings: Settings) -> bool:
    """Whether the database is at the newest revision and has, or had, a workflow."""
    try:
        with _connection(settings) as connection:
            revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
            return revision == newest_revision() and bool(connection.scalar(select(exists(select(Workflow.id)))))
    except SQLAlchemyError:
        # It has no tables yet, or older ones.
        return False


def check_encryption_keys(settings: Settings) -> None:
    """Refuse keys that cannot read what is stored. Needs a migrated database."""
    cipher.use(settings.field_encryption_keys)
    try:
        with _connection(settings) as connection:
            for table in Base.metadata.sorted_tables:
                for column in table.columns:
                    if isinstance(column.type, EncryptedString):
                        connection.execute(select(column)).all()
    except CredentialError:
        raise SettingsError(
            "FIELD_ENCRYPTION_KEY cannot read the credentials stored in this database: "
            "add the key they were stored with, after a comma."
        ) from None


def newest_revision() -> str:
    """The last of our migrations. Their files are named after their revisions, which are numbers."""
    return max(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))


@contextmanager
def _connection(settings: Settings) -> Iterator[Connection]:
    """A connection of its own, gone afterwards: this process is about to become another program."""
    url = make_url(settings.database_url)
    engine = create_engine(
        url,
        connect_args={"connect_timeout": 10} if url.get_backend_name() == "postgresql" else {},
        hide_parameters=True,
    )
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
