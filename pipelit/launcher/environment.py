"""What a process was told: its environment, the `.env` beside it, and the secrets made once for its home."""

import base64
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dotenv import dotenv_values

from pipelit.config import Settings, embedded_socket
from pipelit.errors import SettingsError

SECRETS_FILE = "secrets.env"


def read_environment(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The given variables over those of `.env` in the folder; an empty one counts as not given."""
    beside = {name: value or "" for name, value in dotenv_values(folder / ".env").items()}
    return {name: value for name, value in {**beside, **environ}.items() if value.strip()}


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process, complete: the secrets it was not given come from its home, made when new."""
    given = read_environment(os.environ if environ is None else environ, Path.cwd())
    settings = Settings.load(given)
    if settings.field_encryption_keys and settings.secret_key:
        return settings
    return Settings.load({**ensure_secrets(settings.home), **given})


def prepare_home(settings: Settings) -> None:
    """Make the home folder and the folders inside it, for this user only."""
    socket = embedded_socket(settings.home)
    try:
        for folder in (settings.home, settings.home / "run", settings.home / "logs", settings.home / "redis"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if settings.embedded_redis and socket.parent != settings.home:
            socket.parent.mkdir(mode=0o700, exist_ok=True)
            _check_private(socket.parent)
    except OSError as error:
        raise _unusable(settings.home, error) from None


def ensure_secrets(home: Path) -> Mapping[str, str]:
    """The secrets kept in the home folder; the ones not there yet are made, by exactly one of several processes."""
    path = home / SECRETS_FILE
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone_in(home):
            kept = {name: value for name, value in dotenv_values(path).items() if value}
            missing = {name: make() for name, make in _MADE.items() if name not in kept}
            if missing:
                _write_private(path, {**kept, **missing})
    except OSError as error:
        raise _unusable(home, error) from None
    return {**kept, **missing}


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode("ascii")


_MADE: Mapping[str, Callable[[], str]] = {
    "FIELD_ENCRYPTION_KEY": _fernet_key,
    "SECRET_KEY": lambda: secrets.token_urlsafe(48),
}


def _write_private(path: Path, values: Mapping[str, str]) -> None:
    """Replace the file in one step, never readable by anybody else."""
    draft = path.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write("# Made by Pipelit. Whoever loses FIELD_ENCRYPTION_KEY loses every stored credential.\n")
        file.writelines(f"{name}={value}\n" for name, value in values.items())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _check_private(folder: Path) -> None:
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or folder.is_symlink():
        raise SettingsError(f"PIPELIT_HOME is too long for a socket, and {folder} belongs to somebody else.")


def _unusable(home: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"PIPELIT_HOME ({home}) cannot be used: {error.strerror or error}; name a folder you may write."
    )
