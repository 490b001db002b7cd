"""Stored secrets: everything that is encrypted at rest."""

from cryptography.fernet import InvalidToken
from sqlalchemy import Column, String, Table, literal, select, type_coerce, update
from sqlalchemy.orm import Session

from pipelit.errors import CredentialError
from pipelit.extensions import transaction
from pipelit.models import Base, IdempotencyRecord
from pipelit.models.types import EncryptedString, cipher


def rotate_keys() -> int:
    """Encrypt every stored secret anew with the newest key, all or none; how many there were.

    Afterwards the older keys can leave `FIELD_ENCRYPTION_KEY`.
    """
    with transaction() as session:
        return sum(
            _rotate(session, table, column) for table in Base.metadata.sorted_tables for column in _secret(table)
        )


def _secret(table: Table) -> list["Column[str]"]:
    """The columns of a table that hold ciphertext: encrypted ones, and the kept answers, which may show a new key."""
    found = [column for column in table.columns if isinstance(column.type, EncryptedString)]
    if table is IdempotencyRecord.__table__:
        found.append(table.c.body)
    return found


def _rotate(session: Session, table: Table, column: "Column[str]") -> int:
    """Works on the ciphertext itself, beneath the column type that would decrypt it."""
    (key,) = table.primary_key.columns
    rows = session.execute(select(key, type_coerce(column, String)).where(column.is_not(None))).all()
    for row_id, token in rows:
        session.execute(update(table).where(key == row_id).values({column: literal(_renewed(token, column), String)}))
    return len(rows)


def _renewed(token: str, column: "Column[str]") -> str:
    try:
        return cipher.rotate(token)
    except InvalidToken:
        raise CredentialError(
            f"A secret in {column.table.name}.{column.name} was encrypted with a key that FIELD_ENCRYPTION_KEY "
            "does not hold. Nothing was changed."
        ) from None
