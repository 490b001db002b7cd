"""Brings the database to what this version needs."""

from flask import current_app
from flask_migrate import Migrate
from flask_migrate import upgrade as upgrade_with_alembic

from pipelit.assembly import assemble
from pipelit.config import Settings
from pipelit.extensions import db
from pipelit.launcher import embedded, stored
from pipelit.services import samples


def prepare(settings: Settings) -> None:
    """Migrate, and seed an installation that is new."""
    with embedded.running(settings), assemble(settings).app_context():
        upgrade()
        stored.check_encryption_keys(settings)
        samples.seed()


def upgrade() -> None:
    """Bring the database to the newest revision. Needs an application context."""
    # Bound here and not in `create_app`: Alembic would take 10 MB in every server and worker process.
    Migrate(current_app, db, directory=str(stored.MIGRATIONS))
    upgrade_with_alembic()
