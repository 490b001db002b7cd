"""Started by an HTTP request from outside."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from marshmallow import fields, validate

from pipelit.errors import Unauthorized
from pipelit.nodes.base import NodeConfig, TriggerEvent, TriggerNode
from pipelit.nodes.ports import DataType, Json, Port
from pipelit.nodes.settings import Secret, SecretString, config, setting
from pipelit.nodes.values import as_number

# The two names are routes of our own; `(?!\n)` because in Python `$` also stands before a last line break.
PATH = r"^(?!(?:deliveries|telegram)(?:/|$))[A-Za-z0-9_~-][A-Za-z0-9._~-]*(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$(?!\n)"
HEADER = r"^[A-Za-z0-9-]{1,100}$(?!\n)"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
PRIVATE_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})


def _header(default: str, title: str, help: str, auth: str) -> Any:
    return setting(
        fields.String(validate=validate.Regexp(HEADER, error="Not the name of a header.")),
        title=title,
        help=help,
        default=default,
        is_literal=True,
        visible_when={"auth": auth},
        is_advanced=True,
    )


@config
class WebhookConfig(NodeConfig):
    """Where it listens, who may call, and what the caller gets."""

    path: str = setting(
        fields.String(
            validate=[
                validate.Length(min=1, max=200),
                validate.Regexp(PATH, error="Use letters, digits, - . _ ~ and single slashes between them."),
            ]
        ),
        title="Path",
        help="Requests to /api/v1/webhooks/PATH start the workflow. No two webhooks can have the same.",
        is_literal=True,
    )
    methods: Sequence[str] = setting(
        fields.List(fields.String(validate=validate.OneOf(METHODS)), validate=validate.Length(min=1, max=len(METHODS))),
        title="Methods",
        help="Other methods are refused.",
        default=["POST"],
        widget="multiselect",
        is_literal=True,
    )
    auth: str = setting(
        fields.String(validate=validate.OneOf(["none", "secret", "hmac"])),
        title="Authentication",
        help="Anybody who knows the path, callers who send the secret, or callers who sign the body with it.",
        default="none",
        is_literal=True,
    )
    secret: Secret | None = setting(
        SecretString(validate=validate.Length(min=1, max=500)),
        title="Secret",
        default=None,
        visible_when={"auth": ["secret", "hmac"]},
    )
    secret_header: str = _header(
        "X-Webhook-Secret",
        "Secret header",
        "Carries the secret; `Authorization: Bearer` does, too.",
        "secret",
    )
    signature_header: str = _header(
        "X-Hub-Signature-256",
        "Signature header",
        "Carries the HMAC-SHA256 in hex or base64, also behind a prefix such as sha256= or v1=.",
        "hmac",
    )
    timestamp_header: str | None = setting(
        fields.String(validate=validate.Regexp(HEADER, error="Not the name of a header.")),
        title="Timestamp header",
        help="Where callers send the time of signing (seconds since 1970). They then sign `TIME.BODY`.",
        default=None,
        is_literal=True,
        is_advanced=True,
        visible_when={"auth": "hmac"},
    )
    tolerance_seconds: int = setting(
        fields.Integer(validate=validate.Range(1, 86_400)),
        title="Tolerance",
        help="Seconds that a signature's time may differ from ours.",
        default=300,
        is_literal=True,
        is_advanced=True,
        visible_when={"auth": "hmac"},
    )
    respond: str = setting(
        fields.String(validate=validate.OneOf(["now", "last"])),
        title="Respond",
        help="At once with 202, or with the output of the last node when the workflow has ended.",
        default="now",
        is_literal=True,
    )
    priority: int = setting(
        fields.Integer(validate=validate.Range(-1000, 1000)),
        title="Priority",
        help="Where several triggers match one event, the highest starts first.",
        default=0,
        is_literal=True,
        is_advanced=True,
    )

    @staticmethod
    def problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """A webhook that asks for a secret has one."""
        if values.get("auth", "none") != "none" and not values.get("secret"):
            yield "secret", "Give the secret that callers must know, or set the authentication to none."


class TriggerWebhook(TriggerNode[WebhookConfig]):
    """Starts the workflow when somebody calls its address, `/api/v1/webhooks/PATH`.

    `body` is the parsed body: JSON, a form's fields as an object, or text. `payload` is the body if that is an object;
    anything else is its member `body`. Header names are in small letters; the ones that carry secrets are left out.
    Parameters of the address are in `query`, as a list where one is repeated. When the workflow is started by hand, the
    payload is taken for the body, or for the whole request if it has a member `body`.
    """

    type = "trigger_webhook"
    title = "Webhook"
    icon = "webhook"
    kind = "webhook"
    outputs = (
        Port("body", DataType.ANY, "The parsed body."),
        Port("headers", DataType.OBJECT, "Headers, names in small letters, without the secret ones."),
        Port("query", DataType.OBJECT, "Parameters of the address."),
        Port("method", DataType.STRING, "GET, POST, …"),
        Port("payload", DataType.OBJECT, "The body as an object."),
    )
    main_port = "body"
    example = {"path": "orders/new", "methods": ["POST"], "respond": "last"}
    Config = WebhookConfig

    def key(self, values: Mapping[str, Json]) -> str | None:
        path = values.get("path")
        return path if isinstance(path, str) else None

    def matches(self, config: WebhookConfig, event: TriggerEvent) -> bool:
        return event.payload.get("path") == config.path and event.payload.get("method") in config.methods

    def emit(self, config: WebhookConfig, event: TriggerEvent) -> dict[str, Json]:
        request = event.payload if event.kind == self.kind else _by_hand(event.payload.get("payload"))
        body = request.get("body")
        wrapped: Json = {} if body is None else {"body": body}
        return {
            "body": body,
            "headers": _public(request.get("headers"), config),
            "query": request.get("query") or {},
            "method": request.get("method") or "POST",
            "payload": body if isinstance(body, dict) else wrapped,
        }


def _by_hand(payload: Json) -> Mapping[str, Json]:
    """The request that a payload given by hand stands for: all of one, if it has a `body`, or else its body."""
    if isinstance(payload, dict) and "body" in payload:
        return payload
    return {"body": payload}


def verify(config: WebhookConfig, headers: Mapping[str, str], body: bytes, at: datetime) -> None:
    """Raises `Unauthorized` unless the request proves that its sender knows the secret."""
    sent = {name.lower(): value for name, value in headers.items()}
    if config.auth == "secret":
        _verify_secret(config, sent)
    elif config.auth == "hmac":
        _verify_signature(config, sent, body, at)


def _verify_secret(config: WebhookConfig, headers: Mapping[str, str]) -> None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    offered = [headers.get(config.secret_header.lower(), ""), token.strip() if scheme.lower() == "bearer" else ""]
    secret = _secret(config)
    if not any([hmac.compare_digest(each.encode("utf-8", "replace"), secret) for each in offered]):  # noqa: C419 - compares all, always
        raise Unauthorized(f"The webhook's secret is missing or wrong; send it in the header {config.secret_header}.")


def _verify_signature(config: WebhookConfig, headers: Mapping[str, str], body: bytes, at: datetime) -> None:
    signed = body
    if config.timestamp_header is not None:
        stamp = headers.get(config.timestamp_header.lower(), "")
        seconds = as_number(stamp)
        if seconds is None or abs(at - _moment(seconds)) > timedelta(seconds=config.tolerance_seconds):
            raise Unauthorized(f"The time in the header {config.timestamp_header} is missing, or too far from ours.")
        signed = stamp.encode() + b"." + body
    expected = hmac.new(_secret(config), signed, hashlib.sha256).digest()
    if not any(hmac.compare_digest(each, expected) for each in _signatures(headers, config)):
        raise Unauthorized(f"The signature in the header {config.signature_header} is missing or wrong.")


def _moment(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime(1970, 1, 1, tzinfo=UTC)


def _signatures(headers: Mapping[str, str], config: WebhookConfig) -> Iterator[bytes]:
    """The digests that the header may mean: in hex or base64, each behind its prefix; a key change makes it several."""
    for part in headers.get(config.signature_header.lower(), "")[:2000].replace(" ", ",").split(","):
        for text in (part, part.partition("=")[2]):
            try:
                yield bytes.fromhex(text) if len(text) == 64 else base64.b64decode(text, validate=True)
            except (ValueError, binascii.Error):
                continue


def _secret(config: WebhookConfig) -> bytes:
    if config.secret is None:
        raise Unauthorized("The webhook has no secret yet, so nobody can call it.")
    return config.secret.encode()


def _public(headers: Json, config: WebhookConfig) -> dict[str, Json]:
    """The headers that may be stored with the execution."""
    hidden = PRIVATE_HEADERS | {config.secret_header.lower(), config.signature_header.lower()}
    known = headers if isinstance(headers, dict) else {}
    return {name.lower(): value for name, value in known.items() if name.lower() not in hidden}
