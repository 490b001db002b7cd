"""The one way out: HTTP calls that reach only what they may, and end when they should.

Workflows are written by people who must not reach the machine's own network through us. So every call goes through
`HttpClient`: it connects only to public or allowed addresses, judges every redirect anew, ignores the environment's
proxies, and stops at a time limit, a size limit and when the execution is cancelled.

Types of httpcore and httpx stand in quotes: most processes never make a call, and load neither (`launcher/lean.py`).
"""

import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from http import HTTPStatus
from typing import Self
from urllib.parse import urlencode

import httpcore
import httpx

from pipelit.errors import AddressRefused, ConfigError, UpstreamError, UpstreamRefused
from pipelit.integrations import connections
from pipelit.integrations.addresses import AllowList
from pipelit.integrations.decoding import Decoder

MEBIBYTE = 1024 * 1024
LONGEST_URL = 16 * 1024
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5
HIGHEST_PORT = 65535
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")

OWN_HEADERS = frozenset(
    {"connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Headers that frame the message or choose its target: only the client sets them."""

HARMLESS_HEADERS = frozenset(
    {"accept", "accept-encoding", "accept-language", "content-type", "idempotency-key", "user-agent"}
)
"""Headers that follow a redirect to another origin. Any other may be a credential, whatever its name."""

DEFAULT_HEADERS = {"accept": "*/*", "accept-encoding": "gzip, deflate", "user-agent": "Pipelit"}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A call to make. `query` is added to what the URL holds already; `timeout` is for all of it, in seconds."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    timeout: float = 30.0
    follow_redirects: bool = True


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer, whole and decompressed. Header names are in lower case; repeated ones are joined by a comma."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    @property
    def is_redirect(self) -> bool:
        """Whether it only says where to go instead."""
        return self.status in REDIRECTS and "location" in self.headers

    def retry_after(self, now: datetime) -> float | None:
        """Seconds that the other side asked to wait, if it did, whether it said so as a number or as a date."""
        said = self.headers.get("retry-after", "").strip()
        if said.isascii() and said.isdigit() and len(said) < 10:
            return float(said)
        try:
            return max(0.0, (parsedate_to_datetime(said) - now).total_seconds())
        except (ValueError, TypeError, OverflowError):
            return None


class HttpClient:
    """Makes calls for many threads at once, keeping connections for a while. Opens nothing before its first call.

    `allow` names hosts, addresses and networks that may be reached although they are private.
    """

    def __init__(
        self,
        allow: Sequence[str] = (),
        *,
        max_bytes: int = 10 * MEBIBYTE,
        resolver: "connections.Resolver | None" = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed = AllowList(allow)
        self._resolver = resolver
        self._max_bytes = max_bytes
        self._ssl_context = ssl_context

    @cached_property
    def _pool(self) -> "httpcore.ConnectionPool":
        resolver = self._resolver or connections.system_resolver
        return httpcore.ConnectionPool(
            ssl_context=self._ssl_context or _trusting_the_machine(),
            max_connections=None,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            network_backend=connections.PinnedBackend(self._allowed, resolver),
        )

    def send(self, request: HttpRequest, is_cancelled: Callable[[], bool] = lambda: False) -> HttpResponse:
        """Make the call and return whatever answer comes, an error status too.

        Raises `ConfigError` for a request that cannot be made, `AddressRefused` for a place it must not go to,
        `UpstreamError` when the other side is not there or breaks off, `UpstreamRefused` when its answer is of no
        use, `StepTimeout` when the time is up and `StepCancelled` soon after `is_cancelled()` has become true.
        """
        hop = _first_hop(request)
        with connections.under_way(connections.Call(request.timeout, is_cancelled)):
            for _ in range(MAX_REDIRECTS + 1):
                with _failures_named(hop.url.host):
                    response = self._exchange(hop)
                if not request.follow_redirects or not response.is_redirect:
                    return response
                hop = _next_hop(hop, response)
        raise UpstreamRefused(f"'{hop.url.host}' redirected more than {MAX_REDIRECTS} times.")

    def close(self) -> None:
        """Close the connections that were kept."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchange(self, hop: "_Hop") -> HttpResponse:
        headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in hop.all_headers()]
        url = httpcore.URL(scheme=hop.url.raw_scheme, host=hop.url.raw_host, port=hop.url.port, target=hop.url.raw_path)
        answer = self._pool.handle_request(httpcore.Request(hop.method, url, headers=headers, content=hop.body))
        try:
            received = _received_headers(answer)
            is_redirect = answer.status in REDIRECTS and "location" in received
            decoder = Decoder("" if is_redirect else received.get("content-encoding", ""), self._max_bytes)
            for chunk in answer.iter_stream():
                decoder.feed(chunk)
            return HttpResponse(answer.status, received, decoder.finish(), str(hop.url))
        finally:
            answer.close()


@dataclass(frozen=True, slots=True)
class _Hop:
    """One request of a call: the one asked for, or one that a redirect led to."""

    method: str
    url: "httpx.URL"
    headers: Mapping[str, str]
    body: bytes

    def all_headers(self) -> Iterator[tuple[str, str]]:
        """What is sent: the client's own headers, its defaults, and the caller's."""
        yield "host", self.url.netloc.decode("ascii")
        if self.body or self.method in {"POST", "PUT", "PATCH"}:
            yield "content-length", str(len(self.body))
        yield from {**DEFAULT_HEADERS, **self.headers}.items()

    @property
    def origin(self) -> tuple[str, str, int]:
        default = 443 if self.url.scheme == "https" else 80
        return self.url.scheme, self.url.host, self.url.port or default

    @property
    def tells_secrets(self) -> bool:
        """Whether it carries anything that somebody on the way could make use of."""
        return bool(self.body) or not HARMLESS_HEADERS.issuperset(self.headers)


def _first_hop(request: HttpRequest) -> _Hop:
    if request.method not in METHODS:
        raise ConfigError(
            f"'{request.method}' is not a method that can be used; there are {', '.join(sorted(METHODS))}."
        )
    headers = {name.strip().lower(): value.strip() for name, value in request.headers.items()}
    for name, value in headers.items():
        if name in OWN_HEADERS or name.startswith("proxy-"):
            raise ConfigError(f"The header '{name}' is set by the client and cannot be chosen.")
        # Said without the value, which may be a secret.
        if not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
            raise ConfigError(f"The header '{name}' holds characters that HTTP headers cannot carry.")
    return _Hop(request.method, _parsed(request.url, request.query), headers, request.body)


def _parsed(text: str, query: Sequence[tuple[str, str]] = ()) -> "httpx.URL":
    """The URL, or `ConfigError` saying what is wrong with it."""
    if len(text) > LONGEST_URL:
        raise ConfigError(f"The URL is longer than {LONGEST_URL} characters.")
    try:
        url = httpx.URL(text.strip())
        if query:
            url = url.copy_with(query=b"&".join(filter(None, (url.query, urlencode(query).encode("ascii")))))
        # A dot behind the name means the same host, and must not be a way around a rule about it.
        url = url.copy_with(host=url.host.rstrip(".")) if url.host.endswith(".") else url
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise ConfigError(f"The URL is not valid: {error}.") from error
    if url.scheme not in ("http", "https"):
        raise ConfigError("The URL must start with http:// or https://.")
    if not url.host or (url.port is not None and not 0 < url.port <= HIGHEST_PORT):
        raise ConfigError("The URL must name a host, and a port from 1 to 65535 if any.")
    if url.userinfo:
        raise ConfigError("The URL must not hold a user name or a password.")
    return url


def _next_hop(hop: _Hop, response: HttpResponse) -> _Hop:
    """Where a redirect leads, with only what may go along. Raises `AddressRefused` if nothing may."""
    try:
        url = _parsed(str(hop.url.join(response.headers["location"])))
    except (ConfigError, httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise AddressRefused(f"'{hop.url.host}' redirected to an address that cannot be followed: {error}") from error
    turned_to_get = response.status == HTTPStatus.SEE_OTHER or (response.status in (301, 302) and hop.method == "POST")
    following = replace(hop, url=url)
    if turned_to_get and hop.method != "HEAD":
        kept = {name: value for name, value in hop.headers.items() if not name.startswith("content-")}
        following = replace(following, method="GET", body=b"", headers=kept)
    if hop.url.scheme == "https" and url.scheme == "http" and following.tells_secrets:
        raise AddressRefused(f"'{hop.url.host}' redirected to a connection without encryption; nothing was sent there.")
    if following.origin != hop.origin and not _is_upgrade(hop, following):
        kept = {name: value for name, value in following.headers.items() if name in HARMLESS_HEADERS}
        following = replace(following, headers=kept)
    return following


def _is_upgrade(hop: _Hop, following: _Hop) -> bool:
    """Whether the redirect only turns on encryption for the same host."""
    return (
        hop.url.host == following.url.host
        and hop.origin[0::2] == ("http", 80)
        and following.origin[0::2] == ("https", 443)
    )


def _received_headers(answer: "httpcore.Response") -> dict[str, str]:
    received: dict[str, str] = {}
    for raw_name, raw_value in answer.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        received[name] = f"{received[name]}, {value}" if name in received else value
    return received


@contextmanager
def _failures_named(host: str) -> Iterator[None]:
    """Turn what goes wrong on the wire into errors of ours."""
    try:
        yield
    except (httpcore.LocalProtocolError, httpcore.UnsupportedProtocol) as error:
        raise ConfigError(f"The request cannot be sent: {error}.") from error
    except httpcore.ConnectError as error:
        raise UpstreamError(f"'{host}' could not be reached: {error}.") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
        raise UpstreamError(f"'{host}' broke off: {error}.") from error


def _trusting_the_machine() -> ssl.SSLContext:
    """Certificates that ship with us, and those an operator installed on the machine."""
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context
