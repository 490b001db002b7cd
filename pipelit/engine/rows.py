"""Writing rows that may have been written before."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from sqlalchemy import ColumnElement, Connection, Insert, Table, UniqueConstraint

Columns = Any
"""Columns by name, as attributes: of the row that is there, or of the one that was to be inserted."""

Completing = Callable[[Columns, Columns], tuple[Mapping[str, ColumnElement[Any]], ColumnElement[bool]]]
"""What becomes of a row that is there, given the one that was to be inserted: new values, and if they are taken."""


def insert_once(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, completing: Completing | None = None
) -> None:
    """Insert rows, leaving alone those that are there already, but for what is to be completed."""
    if not rows:
        return
    connection.execute(_inserting(table, connection.dialect.name, completing), rows)


@cache
def _inserting(table: Table, dialect_name: str, completing: Completing | None) -> Insert:
    """The statement, put together once. Each dialect has an insert of its own; only the one in use is loaded."""
    dialect = import_module(f"sqlalchemy.dialects.{dialect_name}")
    statement = dialect.insert(table)
    if completing is None:
        doing_nothing: Insert = statement.on_conflict_do_nothing()
        return doing_nothing
    unique = next(each for each in table.constraints if isinstance(each, UniqueConstraint))
    values, where = completing(table.c, statement.excluded)
    filling: Insert = statement.on_conflict_do_update(
        index_elements=[column.name for column in unique.columns], set_=values, where=where
    )
    return filling
