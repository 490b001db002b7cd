"""Writing rows that may have been written before."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from sqlalchemy import Connection, Insert, Table, UniqueConstraint, case


def insert_once(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    completing: tuple[str, ...] = (),
    agreeing: str | None = None,
) -> None:
    """Insert rows, leaving alone those that are there already, but for columns to be completed.

    Of these the larger number stays: what was written first may not have known all of it. A row that says something
    else in the column `agreeing` is left alone altogether.
    """
    if not rows:
        return
    connection.execute(_inserting(table, connection.dialect.name, completing, agreeing), rows)


@cache
def _inserting(table: Table, dialect_name: str, completing: tuple[str, ...], agreeing: str | None) -> Insert:
    """The statement, put together once. Each dialect has an insert of its own; only the one in use is loaded."""
    dialect = import_module(f"sqlalchemy.dialects.{dialect_name}")
    statement = dialect.insert(table)
    if not completing:
        doing_nothing: Insert = statement.on_conflict_do_nothing()
        return doing_nothing
    unique = next(each for each in table.constraints if isinstance(each, UniqueConstraint))
    larger = {}
    for name in completing:
        there, given = table.c[name], statement.excluded[name]
        larger[name] = case((there.is_(None), given), (given > there, given), else_=there)
    filling: Insert = statement.on_conflict_do_update(
        index_elements=[column.name for column in unique.columns],
        set_=larger,
        where=None if agreeing is None else table.c[agreeing] == statement.excluded[agreeing],
    )
    return filling
