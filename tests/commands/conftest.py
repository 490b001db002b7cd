"""The console command on a migrated database of its own, as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.application import KEYS

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def environ(database_url: str, redis_url: str, tmp_path: Path) -> Mapping[str, str]:
    return {**KEYS, "PIPELIT_HOME": str(tmp_path / "home"), "DATABASE_URL": database_url, "REDIS_URL": redis_url}


@pytest.fixture
def pipelit(environ: Mapping[str, str], tmp_path: Path) -> Command:
    """Run `pipelit` with some arguments; further variables as keywords."""

    def run(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "pipelit", *arguments],
            env={**os.environ, **environ, **more},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
