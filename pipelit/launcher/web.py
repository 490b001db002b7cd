"""Turns a process into the web server."""

import os
import resource
import sys
from typing import NoReturn


def become() -> NoReturn:
    """Same pid, none of our memory: gunicorn's first process only watches over the ones that serve."""
    _raise_file_limit()
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", "-c", "python:pipelit.launcher.gunicorn_config"])


def _raise_file_limit() -> None:
    """Every connection is an open file, and the usual 1024 are few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
