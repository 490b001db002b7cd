"""Rules that hold between rows of different workflows, kept true while several people write at once."""

from sqlalchemy import text
from sqlalchemy.orm import Session

SLUGS = 0x70_6C_01
"""Held by whoever gives a workflow its slug."""

DEFAULT_WORKFLOW = 0x70_6C_02
"""Held by whoever makes a workflow the default one."""

TRIGGER_KEYS = 0x70_6C_03
"""Held by whoever lets outside events reach a trigger."""

SAMPLES = 0x70_6C_04
"""Held by whoever looks whether the sample is there yet."""


def hold(session: Session, lock: int) -> None:
    """Make the others who need this lock wait until the transaction ends; on SQLite there is one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})
