"""How the text of a setting becomes its value. What is wrong is a `ValueError` that says what it must look like."""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit

Parser = Callable[[str], object]


def text(raw: str) -> str:
    return raw


def words(raw: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in raw.split(",") if word.strip())


def whole(least: int, most: int) -> Parser:
    """A parser of whole numbers within limits."""

    def parse(raw: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,18}", raw) or not least <= int(raw) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(raw)

    return parse


def seconds(raw: str) -> float:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", raw) or float(raw) <= 0:
        raise ValueError("must be a number of seconds above zero, such as 6 or 2.5")
    return float(raw)


def one_of(*choices: str) -> Parser:
    def parse(raw: str) -> str:
        if raw.lower() not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return raw.lower()

    return parse


def database_url(raw: str) -> str:
    """SQLAlchemy's form of the URL, always with psycopg 3 for PostgreSQL."""
    scheme, separator, rest = raw.partition("://")
    match scheme:
        case "postgres" | "postgresql" | "postgresql+psycopg" if separator and urlsplit(f"http://{rest}").path.strip(
            "/"
        ):
            return f"postgresql+psycopg://{rest}"
        case "sqlite" if rest.startswith("//"):
            return raw
        case "sqlite":
            raise ValueError("must name a file by its whole path (four slashes): sqlite:////srv/pipelit/pipelit.db")
        case _:
            raise ValueError("must look like sqlite:////whole/path.db or postgresql://user:password@host/database")


def redis_url(raw: str) -> str:
    parts = urlsplit(raw)
    match parts.scheme:
        case "redis" | "rediss" if parts.hostname and _has_sane_port(raw):
            return raw
        case "unix" if parts.path.startswith("/"):
            return raw
        case _:
            raise ValueError("must look like redis://host:6379/0, rediss://host:6379/0 or unix:///path/of/redis.sock")


def _has_sane_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def public_url(raw: str) -> str | None:
    if not raw:
        return None
    parts = urlsplit(raw)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be the address people open, such as https://pipelit.example.org")
    return raw.rstrip("/")


def fernet_keys(raw: str) -> tuple[str, ...]:
    keys = words(raw)
    for key in keys:
        try:
            length = len(base64.urlsafe_b64decode(key.encode("ascii")))
        except (binascii.Error, UnicodeEncodeError):
            length = 0
        if length != 32:
            raise ValueError(
                "must hold Fernet keys: 32 bytes in URL-safe base64, 44 characters each, separated by commas"
            )
    return keys


def secret_key(raw: str) -> str:
    if raw and len(raw) < 16:
        raise ValueError("must have at least 16 characters")
    return raw


def addresses(raw: str) -> tuple[str, ...]:
    found = words(raw)
    for word in found:
        if not re.fullmatch(r"[A-Za-z0-9_*]([A-Za-z0-9_.*-]*[A-Za-z0-9])?", word) and not _is_network(word):
            raise ValueError(f"must list hosts, addresses or networks such as 127.0.0.0/8; {word!r} is none of them")
    return found


def _is_network(word: str) -> bool:
    try:
        ipaddress.ip_network(word, strict=False)
    except ValueError:
        return False
    return True
