"""Where tasks find the application: the worker's entry point makes it once, before the pool forks."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from flask import Flask

from pipelit.extensions import celery

P = ParamSpec("P")
R = TypeVar("R")

CONF_KEY = "pipelit_app"


def use(app: Flask) -> None:
    """Let the tasks of this process run in the context of `app`."""
    celery.conf[CONF_KEY] = app


def in_app(function: Callable[P, R]) -> Callable[P, R]:
    """Run a task in the application's context."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        app: Flask = celery.conf[CONF_KEY]
        with app.app_context():
            return function(*args, **kwargs)

    return run
