"""Call any HTTP API: as a step of a workflow, or as a tool of an agent."""

import base64
import codecs
import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlencode

from marshmallow import fields, validate

from pipelit.errors import ConfigError, UpstreamError, UpstreamRefused
from pipelit.integrations.http import METHODS, HttpRequest, HttpResponse
from pipelit.nodes.base import StepConfig, StepContext, StepNode
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Category, DataType, Json, Port
from pipelit.nodes.settings import config, setting

REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Methods that mean the same when they arrive twice."""
PASSING = frozenset({408, 425, 429})
"""Refusals that another try may overcome, as every 5xx may."""
TEXT_CHARSETS = re.compile(r"ascii|utf-?(8|16|32)|iso8859|cp\d|koi8|gb|big5|hz|euc|shift_jis|iso2022|johab|mac-|latin")
TEXT_TYPES = re.compile(
    r"text/|application/(xml|javascript|ecmascript|yaml|x-yaml|x-www-form-urlencoded|x-ndjson|graphql)"
)
EXCERPT = 200


@config
class HttpRequestConfig(StepConfig):
    """What to call, what to send, and which answers count as success."""

    method: str = setting(fields.String(validate=validate.OneOf(sorted(METHODS))), title="Method", default="GET")
    url: str = setting(
        fields.String(validate=validate.Length(min=1)), title="URL", help="Begins with http:// or https://."
    )
    headers: Mapping[str, Json] = setting(
        fields.Dict(keys=fields.String(), values=fields.Raw(allow_none=True)),
        title="Headers",
        help="Empty ones are left out.",
        widget="key_value",
        default={},
    )
    query: Mapping[str, Json] = setting(
        fields.Dict(keys=fields.String(), values=fields.Raw(allow_none=True)),
        title="Query",
        help="Added to the URL. A list gives the parameter once for each item; empty ones are left out.",
        widget="key_value",
        default={},
    )
    body_type: str = setting(
        fields.String(validate=validate.OneOf(["json", "form", "text", "none"])),
        title="Body type",
        help="How the body is written: JSON, a form's fields, text as it stands, or no body at all.",
        default="json",
        is_literal=True,
    )
    body: Json = setting(
        fields.Raw(allow_none=True), title="Body", help="Empty: no body is sent.", widget="json", default=None
    )
    timeout: float = setting(
        fields.Float(validate=validate.Range(0.1, 3600)),
        title="Timeout",
        help="Seconds for the whole call, redirects included.",
        default=30.0,
    )
    follow_redirects: bool = setting(fields.Boolean(), title="Follow redirects", default=True)
    fail_on_status: bool = setting(
        fields.Boolean(),
        title="Fail on error status",
        help="A status from 400 on fails the step. Switched off, the answer goes on with its status.",
        default=True,
    )
    idempotency_key: bool = setting(
        fields.Boolean(),
        title="Idempotency key",
        help="Send an Idempotency-Key, the same in every attempt, so that the other side can tell a repetition.",
        default=True,
        is_literal=True,
    )


class HttpRequestNode(StepNode[HttpRequestConfig]):
    """Sends one HTTP request and passes the answer on.

    A JSON answer becomes data, a text stays text, and anything else an object `{"base64", "content_type"}`.
    Private and reserved addresses are refused, also behind a redirect, unless the operator allowed them.
    """

    type = "http_request"
    title = "HTTP request"
    category = Category.TOOL
    icon = "globe"
    inputs = (Port("input", description="Starts the request; what is sent stands in the configuration."),)
    outputs = (
        Port("status", DataType.NUMBER, "The status code."),
        Port("headers", DataType.OBJECT, "The answer's headers, names in lower case."),
        Port("body", DataType.ANY, "The answer's content."),
    )
    example: ClassVar[Mapping[str, Json]] = {
        "method": "POST",
        "url": "https://api.example.org/orders",
        "body": {"item": "{{ trigger.body.item }}"},
    }
    is_tool = True
    Config = HttpRequestConfig

    def run(self, config: HttpRequestConfig, context: StepContext) -> Completed:
        """Send the request. A status from 400 on raises `UpstreamError` if it may pass, else `UpstreamRefused`."""
        response = context.http.send(_request(config, context.idempotency_key), context.is_cancelled)
        if config.fail_on_status and response.status >= 400:
            _fail(response, context)
        outputs: dict[str, Json] = {
            "status": response.status,
            "headers": dict(response.headers),
            "body": content(response),
        }
        return Completed(outputs)

    def is_safe_to_repeat(self, values: Mapping[str, Json]) -> bool:
        """Unless the request changes something each time, and carries nothing to tell a repetition by."""
        return values.get("method", "GET") in REPEATABLE or values.get("idempotency_key", True) is True


def _request(config: HttpRequestConfig, idempotency_key: str) -> HttpRequest:
    headers = {name: _scalar(value, f"headers.{name}") for name, value in config.headers.items() if value is not None}
    given = {name.lower() for name in headers}
    body, content_type = _body(config)
    if content_type and "content-type" not in given:
        headers["content-type"] = content_type
    if config.idempotency_key and config.method not in ("GET", "HEAD", "OPTIONS") and "idempotency-key" not in given:
        headers["idempotency-key"] = idempotency_key
    return HttpRequest(
        config.method,
        config.url,
        headers,
        query=_pairs(config.query, "query"),
        body=body,
        timeout=config.timeout,
        follow_redirects=config.follow_redirects,
    )


def _body(config: HttpRequestConfig) -> tuple[bytes, str | None]:
    """The body and the content type that goes with it."""
    if config.body is None or config.body_type == "none":
        return b"", None
    match config.body_type, config.body:
        case "json", value:
            return _encoded(json.dumps(value, ensure_ascii=False, allow_nan=False)), "application/json"
        case "form", dict() as form:
            return _encoded(_form(_pairs(form, "body"))), "application/x-www-form-urlencoded"
        case "form", _:
            raise ConfigError("body: a form's body must be an object of its fields.")
        case _, value:
            return _encoded(_scalar(value, "body")), "text/plain; charset=utf-8"


def _form(pairs: list[tuple[str, str]]) -> str:
    try:
        return urlencode(pairs)
    except UnicodeError as error:
        raise ConfigError(f"body: it holds text that cannot be sent: {error}.") from error


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeError as error:
        raise ConfigError(f"body: it holds text that cannot be sent: {error}.") from error


def _pairs(values: Mapping[str, Json], field: str) -> list[tuple[str, str]]:
    """Names and values; a list gives its name once for each item, null gives nothing."""
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        items = value if isinstance(value, list) else [value]
        pairs += [(name, _scalar(item, f"{field}.{name}")) for item in items if item is not None]
    return pairs


def _scalar(value: Json, field: str) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
    raise ConfigError(f"{field}: it must be a text, a number or a boolean.")


def _fail(response: HttpResponse, context: StepContext) -> None:
    found = content(response)
    said = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    excerpt = said.encode("utf-8", "replace").decode().strip()[:EXCERPT]
    detail = f"The answer's status was {response.status}" + (f": {excerpt}" if excerpt else ".")
    if response.status in PASSING or response.status >= 500:
        raise UpstreamError(detail, after=response.retry_after(context.now()))
    raise UpstreamRefused(detail)


def content(response: HttpResponse) -> Json:
    """What an answer holds: data if it is JSON, text if it is that, otherwise its bytes in base64. Empty is null."""
    content_type = response.headers.get("content-type", "")
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    if not response.body:
        return None
    if kind == "application/json" or kind.endswith("+json"):
        return _json_or_text(response.body)
    if TEXT_TYPES.match(kind) or kind.endswith("+xml"):
        return response.body.decode(_charset(parameters), "replace")
    if not kind:
        try:
            return response.body.decode()
        except UnicodeError:
            pass
    return {"base64": base64.b64encode(response.body).decode("ascii"), "content_type": content_type}


def _json_or_text(body: bytes) -> Json:
    """The data; what only claims to be JSON stays text, so that nothing of an answer is lost."""
    try:
        found: Json = json.loads(body, parse_constant=_refused)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")
    return found


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _charset(parameters: str) -> str:
    """The charset among a content type's parameters, if it is one for text; else UTF-8."""
    found = re.search(r"charset\s*=\s*[\"']?([\w.:-]{1,40})", parameters, re.IGNORECASE)
    try:
        name = codecs.lookup(found.group(1)).name if found else "utf-8"
    except LookupError:
        return "utf-8"
    return name if TEXT_CHARSETS.match(name) else "utf-8"
