"""What clients may say, read strictly."""

from dataclasses import dataclass

from pipelit.api.parser import parse_json
from pipelit.errors import Invalid

LONGEST_CHANNEL = 300
LARGEST_NUMBER = 2**53


@dataclass(frozen=True, slots=True)
class Authenticate:
    token: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """`after`: the number of the last event that the client has."""

    channel: str
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    channel: str


@dataclass(frozen=True, slots=True)
class Pong:
    pass


Message = Authenticate | Subscribe | Unsubscribe | Pong

FIELDS = {"auth": {"token"}, "subscribe": {"channel", "after"}, "unsubscribe": {"channel"}, "pong": set[str]()}


def read(text: str | bytes) -> Message:
    """A client's message. Raises `Invalid` for anything but the messages above."""
    if isinstance(text, bytes):
        raise Invalid("Send text messages, not binary ones.")
    message = parse_json(text.encode())
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise Invalid('A message is a JSON object with a "type".')
    kind = message.pop("type")
    if kind not in FIELDS:
        raise Invalid(f'There is no message of type "{kind[:50]}"; there are {", ".join(FIELDS)}.')
    if unknown := sorted(message.keys() - FIELDS[kind]):
        raise Invalid(f'A "{kind}" message has no "{unknown[0][:50]}".')
    match kind:
        case "auth":
            return Authenticate(_text(message, "token"))
        case "subscribe":
            return Subscribe(_text(message, "channel"), _number(message, "after"))
        case "unsubscribe":
            return Unsubscribe(_text(message, "channel"))
        case _:
            return Pong()


def _text(message: dict[str, object], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_CHANNEL:
        raise Invalid(f'"{name}" must be text of 1 to {LONGEST_CHANNEL} characters.')
    return value


def _number(message: dict[str, object], name: str) -> int | None:
    value = message.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_NUMBER:
        raise Invalid(f'"{name}" must be a whole number from 0 on.')
    return value
