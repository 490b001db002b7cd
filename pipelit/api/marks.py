"""What a view says about itself beside its arguments and its answer: read by authentication and the documentation."""

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask

View = TypeVar("View", bound=Callable[..., Any])
Mark = str

OPEN: Mark = "open"
ADMIN: Mark = "admin"
TAGGED: Mark = "tagged"
GUARDED: Mark = "guarded"
IDEMPOTENT: Mark = "idempotent"


def mark(name: Mark) -> Callable[[View], View]:
    """A decorator that puts a mark on a view; decorators around it keep it (`functools.wraps` copies attributes)."""

    def put(view: View) -> View:
        view.__dict__["marks"] = marks(view) | {name}
        return view

    return put


def marks(view: Callable[..., Any] | None) -> frozenset[Mark]:
    """The marks of a view."""
    return getattr(view, "marks", frozenset())


def view_of(app: Flask, endpoint: str | None, method: str) -> Callable[..., Any] | None:
    """The function that answers a method at an endpoint; HEAD is answered by GET."""
    function = app.view_functions.get(endpoint or "")
    resource = getattr(function, "view_class", None)
    if resource is None:
        return function
    name = "get" if method == "HEAD" and not hasattr(resource, "head") else method.lower()
    found: Callable[..., Any] | None = getattr(resource, name, None)
    return found
