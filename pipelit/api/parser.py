"""Reads bodies and query parameters, strictly: what is not acceptable is `Invalid`, with messages by field."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

from flask import Request
from marshmallow import RAISE, Schema, ValidationError
from webargs import core
from webargs.flaskparser import FlaskParser, is_json_request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import UnsupportedMediaType

from pipelit.errors import Invalid
from pipelit.nodes.settings import messages_by_path

UNKEEPABLE = re.compile("[\x00\ud800-\udfff]")
"""Characters that PostgreSQL cannot keep in text: NUL, and halves of surrogate pairs."""

ESCAPED = re.compile(rb"\\u(0000|[dD][89a-fA-F])")
"""How such a character stands in a JSON body; as a raw byte it is not JSON, or not UTF-8, in the first place."""

DEEPEST = 200
"""Levels of nesting that everything behind this door can walk without running out of stack."""


class Parser(FlaskParser):
    """Unknown fields are refused wherever they stand."""

    DEFAULT_VALIDATION_STATUS = 422

    def __init__(self, *, needs_body: bool = True) -> None:
        super().__init__(unknown=RAISE)
        self.needs_body = needs_body

    def load_json(self, req: Request, schema: Schema) -> Any:
        """The body as JSON."""
        raw = req.get_data(cache=True)
        if not raw and self.needs_body:
            raise Invalid("Send a JSON body.")
        if not raw:
            return core.missing
        if not is_json_request(req):
            raise UnsupportedMediaType("Send the body as application/json.")
        return parse_json(raw)

    def load_querystring(self, req: Request, schema: Schema) -> Any:
        _refuse_unkeepable(_parameters(req.args))
        return super().load_querystring(req, schema)

    def handle_error(self, error: ValidationError, req: Request, schema: Schema, **_options: Any) -> NoReturn:
        # webargs puts the location on top; who sent a field knows where.
        by_location = error.messages_dict
        errors: dict[str, list[str]] = {}
        for messages in by_location.values():
            errors.update(messages_by_path(ValidationError(messages)))
        raise Invalid(summary(errors), errors)


def summary(errors: Mapping[str, list[str]]) -> str:
    """One sentence about the first error, for people who read only that."""
    path, messages = next(iter(errors.items()))
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{path}: {messages[0]}{more}" if path else f"{messages[0]}{more}"


def parse_json(raw: bytes) -> Any:
    """JSON as RFC 8259 has it: no NaN, no text that a database cannot keep, and no depth that exhausts the stack."""
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite)
    except UnicodeDecodeError:
        raise Invalid("The body is not UTF-8.") from None
    except RecursionError:
        raise Invalid("The body is nested too deeply.") from None
    except ValueError as error:
        raise Invalid(f"The body is not valid JSON: {error}.") from None
    if raw.count(b"[") + raw.count(b"{") > DEEPEST:
        _refuse_deep(value)
    if ESCAPED.search(raw):
        _refuse_unkeepable(_texts(value, ""))
    return value


def _refuse_deep(value: Any) -> None:
    fields = value if isinstance(value, dict) else {"": value}
    for name, part in fields.items():
        if _is_deeper(part, DEEPEST):
            raise Invalid("The body is nested too deeply.", {UNKEEPABLE.sub("?", name): ["Is nested too deeply."]})


def _is_deeper(value: Any, limit: int) -> bool:
    """Whether a JSON value has more levels than that, looked at level by level."""
    level = [value]
    for _ in range(limit + 1):
        level = [part for item in level if isinstance(item, dict | list) for part in _parts(item)]
        if not level:
            return False
    return True


def _parts(container: "dict[str, Any] | list[Any]") -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large a number")
    return number


def _refuse_unkeepable(texts: Iterator[tuple[str, str]]) -> None:
    for path, text in texts:
        if UNKEEPABLE.search(text):
            message = "Holds a NUL character or half of a surrogate pair."
            raise Invalid(f"{UNKEEPABLE.sub('?', path)}: {message}", {UNKEEPABLE.sub("?", path): [message]})


def _parameters(arguments: "MultiDict[str, str]") -> Iterator[tuple[str, str]]:
    for name, value in arguments.items(multi=True):
        yield name, name
        yield name, value


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every text in a JSON value, keys included, with where it stands."""
    match value:
        case str():
            yield path, value
        case dict():
            for key, part in value.items():
                at = f"{path}.{key}" if path else key
                yield at, key
                yield from _texts(part, at)
        case list():
            for index, part in enumerate(value):
                yield from _texts(part, f"{path}.{index}" if path else str(index))
