"""A portion of a list, and how many there are in all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, func, select

from pipelit.extensions import db

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """`limit` rows after the first `offset`."""

    limit: int = 50
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """The rows of a page and the number of all rows."""

    items: Sequence[T]
    total: int


def total(query: Select[Any]) -> int:
    """How many rows a query has, whatever its order."""
    return db.session.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0


def listing(query: Select[T], page: Page) -> Listing[T]:
    """One page of a query for one kind of row; give the query an order, or pages will overlap."""
    rows = db.session.scalars(query.limit(page.limit).offset(page.offset)).unique().all()
    return Listing(rows, total(query))
