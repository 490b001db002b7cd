"""`pipelit up`: everything that must be right before the processes start, then the supervisor."""

import os
import subprocess
import sys
from typing import NoReturn

from pipelit.config import Settings
from pipelit.launcher import checks, database, stored, supervisor
from pipelit.launcher.environment import prepare_home
from pipelit.launcher.guard import PARENT


def up(settings: Settings) -> NoReturn:
    """Check, migrate, seed, and become the supervisor of all processes; `SettingsError` if something is wrong."""
    prepare_home(settings)
    lock = checks.take_home(settings)
    checks.port_is_free(settings)
    checks.embedded_server_is_gone(settings)
    checks.redis_is_usable(settings)
    stored.check(settings)
    if stored.is_prepared(settings):
        stored.check_encryption_keys(settings)
    else:
        # Loads the whole application, which this process does not need otherwise (`lean.py` sees to that).
        database.prepare(settings)
    _announce_later(settings)
    supervisor.become(settings, lock)


def _announce_later(settings: Settings) -> None:
    """Leave a process behind that says when the product is ready; the supervisor-to-be is its parent."""
    command = [sys.executable, "-m", "pipelit.launcher.announce", settings.local_url, str(settings.home / "logs")]
    subprocess.Popen(command, env={**os.environ, PARENT: str(os.getpid())}, stdin=subprocess.DEVNULL)
