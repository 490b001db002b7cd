"""Log lines: events with fields, as text for people or JSON for programs, and never a secret.

Ids come from context: `with bound(execution_id=…):` puts them on every line written inside.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from typing import TextIO

import structlog
from structlog.typing import Processor

from pipelit.config import Settings

SECRET_NAME = re.compile(r"(?i)(password|passwd|secret|token|api_?key|authorization|cookie|credential_detail|fernet)")
URL_PASSWORD = re.compile(r"(?P<start>[a-z][a-z0-9+.-]*://[^/\s:@]*:)[^/\s@]+(?=@)", re.IGNORECASE)
MASK = "••••"

# Chatter of libraries, a line or two for each call, task or connection, that nobody could act on. The engine says in
# its own words what it does; Celery's two lines a task would only make every hop slower.
QUIET = ("httpx", "httpcore", "urllib3", "kombu", "amqp", "alembic", "celery.app.trace", "celery.worker.strategy")


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Send every log line of this process, ours and the libraries', to one stream in one form (default: stderr)."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        hide_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(settings, target)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def bound(**ids: str) -> AbstractContextManager[None]:
    """Put these ids on every log line written inside the block."""
    return structlog.contextvars.bound_contextvars(**ids)


def hide_secrets(logger: object, method: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
    """Mask fields named like a secret, and passwords inside URLs, wherever they stand in the line."""
    for name, value in event.items():
        event[name] = _without_secrets(name, value)
    return event


def _without_secrets(name: str, value: object) -> object:
    if SECRET_NAME.search(name) and not isinstance(value, bool | int | float):
        return MASK
    match value:
        case str():
            return URL_PASSWORD.sub(rf"\g<start>{MASK}", value)
        case dict():
            return {key: _without_secrets(str(key), part) for key, part in value.items()}
        case list():
            return [_without_secrets("", part) for part in value]
        case _:
            return value


def _renderer(settings: Settings, target: TextIO) -> Processor:
    if settings.log_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=target.isatty())
