"""Every setting of Pipelit, declared once: its environment name, its default, how it is read and what it means.

`Settings.load` is pure: it reads the mapping it is given and nothing else, so that a test or another process
gets exactly what it asks for. `declared` yields the same declarations as rows for `docs/configuration.md`.
"""

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Self
from urllib.parse import quote, unquote, urlsplit

from pipelit.errors import SettingsError
from pipelit.parsers import Parser
from pipelit.parsers import addresses as _addresses
from pipelit.parsers import database_url as _database_url
from pipelit.parsers import fernet_keys as _fernet_keys
from pipelit.parsers import one_of as _one_of
from pipelit.parsers import public_url as _public_url
from pipelit.parsers import redis_url as _redis_url
from pipelit.parsers import seconds as _seconds
from pipelit.parsers import secret_key as _secret_key
from pipelit.parsers import text as _text
from pipelit.parsers import whole as _whole
from pipelit.parsers import words as _words

# A unix socket's address holds 108 bytes on Linux and 104 on macOS, the ending zero included.
LONGEST_SOCKET_PATH = 100


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as an operator sees it; `default` is written as it would stand in the environment."""

    name: str
    parse: Parser
    default: str
    help: str
    secret: bool = False

    def read(self, environ: Mapping[str, str], places: Mapping[str, str]) -> object:
        """The value the environment gives, or the default; a wrong one stops the start with one sentence."""
        given = environ.get(self.name, "").strip()
        try:
            return self.parse(given or self.default.format_map(places))
        except ValueError as error:
            shown = "" if self.secret else f" ({given!r})"
            raise SettingsError(f"{self.name}{shown} {error}.") from None


def _setting(name: str, parse: Parser, default: str, help: str, *, secret: bool = False) -> Mapping[str, Setting]:
    return {"setting": Setting(name, parse, default, help, secret)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a process of Pipelit was told: read once at its start and handed on as an argument."""

    home: Path = field(
        metadata=_setting(
            "PIPELIT_HOME",
            Path,
            "{default_home}",
            "Folder of the database, the secrets and the embedded server's data. "
            "`var/` in a checkout, the user's data directory when installed.",
        )
    )
    database_url: str = field(
        repr=False,
        metadata=_setting(
            "DATABASE_URL",
            _database_url,
            "sqlite:///{home}/pipelit.db",
            "The SQL database: SQLite or PostgreSQL (`postgresql://user:password@host/database`).",
            secret=True,
        ),
    )
    redis_url: str = field(
        repr=False,
        metadata=_setting(
            "REDIS_URL",
            _redis_url,
            "unix://{socket}",
            "The Redis or Valkey server (`redis://`, `rediss://` or `unix://`). Unset: a server of our own, "
            "reachable only through a private unix socket.",
            secret=True,
        ),
    )
    field_encryption_keys: tuple[str, ...] = field(
        repr=False,
        metadata=_setting(
            "FIELD_ENCRYPTION_KEY",
            _fernet_keys,
            "",
            "Fernet keys of stored credentials, separated by commas: the first encrypts, all decrypt. "
            "Unset: made once and kept in `secrets.env` in the home folder.",
            secret=True,
        ),
    )
    secret_key: str = field(
        repr=False,
        metadata=_setting(
            "SECRET_KEY",
            _secret_key,
            "",
            "Signs what leaves the server and comes back. Unset: made once and kept in `secrets.env`.",
            secret=True,
        ),
    )
    host: str = field(
        metadata=_setting("PIPELIT_HOST", _text, "127.0.0.1", "Address to listen on; `0.0.0.0` for every interface.")
    )
    port: int = field(metadata=_setting("PIPELIT_PORT", _whole(1, 65535), "8000", "Port to listen on."))
    public_url: str | None = field(
        metadata=_setting(
            "PIPELIT_PUBLIC_URL",
            _public_url,
            "",
            "The address people and services reach this server under; used in links and for webhooks.",
        )
    )
    trusted_proxies: int = field(
        metadata=_setting(
            "PIPELIT_TRUSTED_PROXIES",
            _whole(0, 10),
            "0",
            "How many reverse proxies stand in front, each of which says in `X-Forwarded-For`, `X-Forwarded-Proto` and "
            "`X-Forwarded-Host` who called it and how. 0: nobody is believed.",
        )
    )
    http_allow: tuple[str, ...] = field(
        metadata=_setting(
            "PIPELIT_HTTP_ALLOW",
            _addresses,
            "",
            "Hosts, addresses or networks (`127.0.0.0/8`), separated by commas, "
            "that workflows may call although they are private.",
        )
    )
    cors_origins: tuple[str, ...] = field(
        metadata=_setting(
            "PIPELIT_CORS_ORIGINS", _words, "", "Web origins, separated by commas, whose pages may call the API."
        )
    )
    workers: int = field(
        metadata=_setting("PIPELIT_WORKERS", _whole(1, 256), "2", "Worker processes that run the steps of workflows.")
    )
    web_workers: int = field(
        metadata=_setting(
            "PIPELIT_WEB_WORKERS",
            _whole(1, 64),
            "1",
            "Web server processes. One is enough for two cores and a few thousand sockets; "
            "a larger machine answers more with one for every two cores.",
        )
    )
    visibility_timeout: int = field(
        metadata=_setting(
            "PIPELIT_VISIBILITY_TIMEOUT",
            _whole(2, 86_400),
            "3600",
            "Seconds until the broker gives an unacknowledged message to another worker.",
        )
    )
    lease_seconds: float = field(
        metadata=_setting(
            "PIPELIT_LEASE_SECONDS",
            _seconds,
            "6.0",
            "Seconds without a sign of life after which a running step counts as lost; "
            "below half the visibility timeout.",
        )
    )
    placement: str = field(
        metadata=_setting(
            "PIPELIT_PLACEMENT",
            _one_of("chained", "local"),
            "chained",
            "Where the steps of workflows run that do not say so themselves: each as a Celery task of its own, or in "
            "slices, a task going on with steps that do no IO.",
        )
    )
    node_timeout_seconds: int = field(
        metadata=_setting(
            "PIPELIT_NODE_TIMEOUT_SECONDS",
            _whole(1, 86_400),
            "300",
            "Longest run of one step, unless its node says otherwise.",
        )
    )
    step_memory_mb: int = field(
        metadata=_setting(
            "PIPELIT_STEP_MEMORY_MB",
            _whole(0, 1_048_576),
            "2048",
            "Memory in MB that a process may take for the steps it runs, before a step fails; 0 for no limit.",
        )
    )
    max_body_bytes: int = field(
        metadata=_setting("PIPELIT_MAX_BODY_BYTES", _whole(1024, 2**30), "8388608", "Largest request body accepted.")
    )
    blob_bytes: int = field(
        metadata=_setting(
            "PIPELIT_BLOB_BYTES",
            _whole(1024, 2**26),
            "262144",
            "A step's output above this size is kept outside the live state.",
        )
    )
    output_bytes: int = field(
        metadata=_setting(
            "PIPELIT_OUTPUT_BYTES",
            _whole(65_536, 2**30),
            "67108864",
            "Largest output of a step, as JSON; what is larger fails the step that made it or would read it.",
        )
    )
    events_kept: int = field(
        metadata=_setting(
            "PIPELIT_EVENTS_KEPT", _whole(100, 10_000_000), "10000", "Newest events kept of one execution."
        )
    )
    call_depth: int = field(
        metadata=_setting(
            "PIPELIT_CALL_DEPTH",
            _whole(1, 100),
            "10",
            "How many workflows may call one another in a row before it counts as calling without end.",
        )
    )
    keep_days: int = field(
        metadata=_setting(
            "PIPELIT_KEEP_DAYS",
            _whole(0, 36_500),
            "30",
            "Days that an execution is kept after its end, with its logs, outputs and events; 0 for ever.",
        )
    )
    keep_per_workflow: int = field(
        metadata=_setting(
            "PIPELIT_KEEP_PER_WORKFLOW",
            _whole(0, 1_000_000_000),
            "10000",
            "Newest ended executions kept of each workflow; 0 for all of them.",
        )
    )
    keep_executions: int = field(
        metadata=_setting(
            "PIPELIT_KEEP_EXECUTIONS",
            _whole(0, 1_000_000_000),
            "100000",
            "Newest ended executions kept in all; 0 for all of them.",
        )
    )
    log_level: str = field(
        metadata=_setting(
            "PIPELIT_LOG_LEVEL", _one_of("debug", "info", "warning", "error"), "info", "Least severe log line written."
        )
    )
    log_format: str = field(
        metadata=_setting(
            "PIPELIT_LOG_FORMAT", _one_of("text", "json"), "text", "Log lines for people or for programs."
        )
    )

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """The settings an environment asks for; `SettingsError` names the first wrong one."""
        home = _home(environ)
        places = {"home": str(home), "default_home": str(home), "socket": quote(str(embedded_socket(home)))}
        # `Any`: each value has the type its parser returns, which a mapping cannot say per key.
        values: dict[str, Any] = {
            part.name: part.metadata["setting"].read(environ, places) for part in dataclasses.fields(cls)
        }
        settings = cls(**{**values, "home": home})
        if settings.lease_seconds * 2 >= settings.visibility_timeout:
            raise SettingsError(
                f"PIPELIT_LEASE_SECONDS ({settings.lease_seconds:g}) must be below half of "
                f"PIPELIT_VISIBILITY_TIMEOUT ({settings.visibility_timeout})."
            )
        return settings

    @property
    def embedded_redis(self) -> bool:
        """Whether the server is ours to start: no `REDIS_URL` was given."""
        return self.redis_url == f"unix://{quote(str(embedded_socket(self.home)))}"

    @property
    def broker_url(self) -> str:
        """The Redis URL in kombu's form."""
        parts = urlsplit(self.redis_url)
        if parts.scheme != "unix":
            return self.redis_url
        # redis-py reads `?db=1`, kombu the same number under `virtual_host`.
        query = parts.query.replace("db=", "virtual_host=")
        return f"redis+socket://{parts.netloc}{quote(unquote(parts.path))}" + (f"?{query}" if query else "")

    @property
    def local_url(self) -> str:
        """Where this machine finds the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def base_url(self) -> str:
        """Where others find this server: the public address if there is one."""
        return self.public_url or self.local_url


def declared() -> Iterator[Setting]:
    """Every setting, in the order of the documentation."""
    for part in dataclasses.fields(Settings):
        yield part.metadata["setting"]


def embedded_socket(home: Path) -> Path:
    """Where the embedded server of a home listens; the same answer in every process."""
    socket = home / "redis.sock"
    if len(os.fsencode(socket)) <= LONGEST_SOCKET_PATH:
        return socket
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    # The one short path every machine has; whoever makes the folder checks that nobody else owns it.
    return Path(f"/tmp/pipelit-{os.getuid()}") / f"{name}.sock"  # noqa: S108


def _home(environ: Mapping[str, str]) -> Path:
    given = environ.get("PIPELIT_HOME", "").strip()
    if given == "~" or given.startswith("~/"):
        given = environ.get("HOME", "") + given[1:]
    home = Path(os.path.abspath(given)) if given else _default_home(environ)
    if re.search(r"[?#;\x00-\x1f]", str(home)):
        _refuse("PIPELIT_HOME", "must be a path without '?', '#', ';' and control characters")
    return home


def _default_home(environ: Mapping[str, str]) -> Path:
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "setup.cfg").is_file():
        return checkout / "var"
    if environ.get("XDG_DATA_HOME", "").startswith("/"):
        return Path(environ["XDG_DATA_HOME"]) / "pipelit"
    if not environ.get("HOME", "").startswith("/"):
        _refuse("PIPELIT_HOME", "must name a folder, because there is no home directory to put one in")
    return Path(environ["HOME"]) / ".local" / "share" / "pipelit"


def _refuse(name: str, reason: str) -> NoReturn:
    raise SettingsError(f"{name} {reason}.")
