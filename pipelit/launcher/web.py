"""Turns a process into the web server."""

import os
import sys
from typing import NoReturn

COMMAND = (sys.executable, "-m", "gunicorn", "-c", "python:pipelit.launcher.gunicorn_config")


def become() -> NoReturn:
    """Same pid, none of our memory: gunicorn's first process only watches over the ones that serve."""
    os.execv(COMMAND[0], COMMAND)
