"""What a caller believes the present version of a row to be, checked inside the transaction that changes it."""

from collections.abc import Callable

Precondition = Callable[[object], None]
"""Given a row, raises `StaleVersion` unless it is as the caller saw it last."""


def none(_row: object) -> None:
    """The precondition of a caller who does not care."""
