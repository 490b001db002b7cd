"""Writing rows that may have been written before."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from sqlalchemy import Connection, Insert, Table


def insert_once(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, leaving alone those that are there already."""
    if not rows:
        return
    connection.execute(_inserting(table, connection.dialect.name), rows)


@cache
def _inserting(table: Table, dialect_name: str) -> Insert:
    """The statement, put together once. Each dialect has an insert of its own; only the one in use is loaded."""
    dialect = import_module(f"sqlalchemy.dialects.{dialect_name}")
    statement: Insert = dialect.insert(table).on_conflict_do_nothing()
    return statement
