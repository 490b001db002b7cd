"""One row in every table, made from the columns alone, so that a migration meets data whatever the models become."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, Column, Connection, MetaData, Table, insert

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def populate(connection: Connection) -> dict[str, int]:
    """Fill every table of a migrated database; the number of rows by table."""
    found = MetaData()
    found.reflect(connection)
    made: dict[str, dict[str, Any]] = {}
    for table in found.sorted_tables:
        if table.name != "alembic_version":
            made[table.name] = _row(table, made)
            connection.execute(insert(table).values(made[table.name]))
    return dict.fromkeys(made, 1)


def count(connection: Connection) -> dict[str, int]:
    """The number of rows of every table but Alembic's own."""
    found = MetaData()
    found.reflect(connection)
    return {
        name: connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one()
        for name in found.tables
        if name != "alembic_version"
    }


def _row(table: Table, made: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {column.name: _value(column, made) for column in table.columns}


def _value(column: Column[Any], made: dict[str, dict[str, Any]]) -> Any:
    for key in column.foreign_keys:
        parent = made.get(key.column.table.name)
        return None if parent is None else parent[key.column.name]
    if isinstance(column.type, JSON):
        return {"a": [1, None]}
    match column.type.python_type.__name__:
        case "int" | "float":
            return 1
        case "bool":
            return True
        case "datetime":
            return NOW
        case "bytes":
            return b"\x00\xff"
        case "Decimal":
            return Decimal("1.25")
        case _:
            return "text"
