"""The declarative base and the column types that all rows share."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Integer, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

from pipelit.errors import CredentialError

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

CONVENTION = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraints have names, so that SQLite's batch migrations can find them."""


class Base(DeclarativeBase):
    """The base of every row."""

    metadata = MetaData(naming_convention=CONVENTION)


BigId = BigInteger().with_variant(Integer, "sqlite")
"""An autoincrementing key that will not run out; SQLite counts only in INTEGER, which is as wide there."""


class ExactJson(TypeDecorator[Any]):
    """JSON that comes back as it was, numbers too.

    To SQLite the column is numeric: text that looks like a number becomes one, of 64 bits. Bytes are left as they are.
    """

    impl = JSON
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        write = super().bind_processor(dialect)
        if write is None or dialect.name != "sqlite":
            return write

        def written(value: Any) -> Any:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            return write(value).encode() if is_number else write(value)

        return written

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        """As JSON itself does it."""
        return self.impl_instance.coerce_compared_value(op, value)


JsonValue = ExactJson(none_as_null=True)
"""Any JSON; `None` is SQL NULL. Not JSONB, which refuses NUL characters and lone surrogates that people do send."""

JsonText = Text()
"""JSON that is stored and sent as the text it came as, never taken apart by the database."""


class UtcDateTime(TypeDecorator[datetime]):
    """A time with its zone, kept in UTC; naive times are refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A time without a zone cannot be stored.")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Cipher:
    """Fernet with rotation: the first key encrypts, all of them decrypt. Set once, when the application is made."""

    def __init__(self) -> None:
        self._keys: tuple[str, ...] = ()
        self._fernet: MultiFernet | None = None

    def use(self, keys: Sequence[str]) -> None:
        """Take the keys, newest first."""
        self._keys = tuple(keys)
        self._fernet = None

    def encrypt(self, plain: str) -> str:
        return self._ready().encrypt(plain.encode()).decode()

    def decrypt(self, token: str) -> str:
        """Raises `CredentialError` if none of the keys fits."""
        fernet = self._ready()
        try:
            return fernet.decrypt(token.encode()).decode()
        except _invalid_token() as error:
            message = "A stored secret was encrypted with a key that FIELD_ENCRYPTION_KEY does not hold."
            raise CredentialError(message) from error

    def rotate(self, token: str) -> str:
        """The same secret under the newest key."""
        return self._ready().rotate(token.encode()).decode()

    def _ready(self) -> "MultiFernet":
        if not self._keys:
            raise CredentialError("No FIELD_ENCRYPTION_KEY is set.")
        if self._fernet is None:
            # Loaded with the first secret: a worker that meets none would carry 7 MB of cryptography for nothing.
            from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415

            self._fernet = MultiFernet([Fernet(key) for key in self._keys])
        return self._fernet


def _invalid_token() -> type[Exception]:
    from cryptography.fernet import InvalidToken  # noqa: PLC0415  # loaded already, see `Cipher._ready`

    return InvalidToken


cipher = Cipher()


class EncryptedString(TypeDecorator[str]):
    """Text that is ciphertext in the database. Equality in SQL never matches: every encryption differs."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else cipher.encrypt(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else cipher.decrypt(value)
