"""Waits until the product is ready, says where it is and what to do next, and ends.

`python -m pipelit.launcher.announce ADDRESS LOGS`: a process of its own, because the one that started it has
become the supervisor by then.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping

import click

from pipelit.launcher.guard import end_with_supervisor

PATIENCE = 60.0


def announce(address: str, logs: str, *, patience: float = PATIENCE) -> int:
    """Exit code 0 once the product answers that it is ready, 1 when it does not in time."""
    until = time.monotonic() + patience
    while _get(f"{address}/api/v1/health/ready/") is None:
        if time.monotonic() > until:
            click.echo(f"Pipelit is not ready after {patience:.0f} s; its log files may say why: {logs}", err=True)
            return 1
        time.sleep(0.1)
    setup = _get(f"{address}/api/v1/auth/setup-status/") or {}
    click.echo(_text(address, logs, is_new=bool(setup.get("needs_setup"))))
    return 0


def _text(address: str, logs: str, *, is_new: bool) -> str:
    first_user = (
        f"curl {address}/api/v1/auth/setup/ -H 'Content-Type: application/json' "
        """-d '{"username": "me", "password": "a long password"}'"""
    )
    following = f"make the first user:\n\n    {first_user}\n" if is_new else f"open {address}/\n"
    return f"\nPipelit is ready.\n\n  Address   {address}/\n  Logs      {logs}\n  Stop      Ctrl-C\n\nNext: {following}"


def _get(url: str) -> Mapping[str, object] | None:
    """The JSON object behind a local address; None while there is none."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            found = json.load(response)
    except (OSError, ValueError, urllib.error.URLError):
        return None
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    try:
        end_with_supervisor(os.environ)
        sys.exit(announce(*sys.argv[1:3]))
    except KeyboardInterrupt:
        sys.exit(130)
