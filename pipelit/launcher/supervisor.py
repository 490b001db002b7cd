"""One supervisor for all processes of the product: what it is told, and how this process turns into it."""

import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import celeryconfig
from pipelit.config import Settings
from pipelit.launcher import embedded, web
from pipelit.launcher.guard import PARENT

# supervisord closes every descriptor above 4 at its start, and its children close all above 2: a lock kept here
# is held by supervisord and by nobody else, until the moment it is gone.
LOCK_DESCRIPTOR = 3


GUARDED = (sys.executable, "-m", "pipelit.launcher.guard")


@dataclass(frozen=True, slots=True)
class Program:
    """One process to keep alive. Started within `start_seconds`, or it counts as failed and is tried again later."""

    name: str
    command: tuple[str, ...]
    start_seconds: int
    stop_seconds: int


def programs(settings: Settings) -> Iterator[Program]:
    """What runs: the server if it is ours, the web server, and one worker for each lane."""
    if settings.embedded_redis:
        yield Program("redis", (*GUARDED, *embedded.command(settings)), start_seconds=1, stop_seconds=30)
    yield Program("web", (*GUARDED, *web.COMMAND), start_seconds=5, stop_seconds=10)
    for lane in celeryconfig.LANES:
        # Running tasks have `worker_soft_shutdown_timeout`; a thread that does not end is killed after that.
        command = (sys.executable, "-m", "pipelit", "worker", lane.name)
        yield Program(f"worker-{lane.name}", command, start_seconds=5, stop_seconds=12)


def configuration(settings: Settings, *, pid: int) -> str:
    """The supervisor's file. The server stops last, because the others hand their work back to it."""
    inside = list(programs(settings))
    others = ",".join(program.name for program in inside if program.name != "redis")
    sections = [
        _section(
            "supervisord",
            nodaemon="true",
            silent="true",
            identifier="pipelit",
            logfile=_escaped(settings.home / "logs" / "supervisor.log"),
            logfile_maxbytes="10MB",
            logfile_backups="2",
            pidfile=_escaped(settings.home / "run" / "supervisor.pid"),
            environment=f'{PARENT}="{pid}",REMAP_SIGTERM="SIGQUIT"',
        ),
        *(_program(settings, program) for program in inside),
        _section("group:pipelit", programs=others, priority="20"),
    ]
    return "\n".join(sections)


def become(settings: Settings, lock: int) -> NoReturn:
    """Turn this process into the supervisor: same pid, same terminal, the lock still held, none of our memory."""
    file = settings.home / "run" / "supervisor.conf"
    file.write_text(configuration(settings, pid=os.getpid()), encoding="utf-8")
    if lock != LOCK_DESCRIPTOR:
        os.dup2(lock, LOCK_DESCRIPTOR)
    os.set_inheritable(LOCK_DESCRIPTOR, True)
    os.execv(sys.executable, [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(file)])


def _program(settings: Settings, program: Program) -> str:
    return _section(
        f"program:{program.name}",
        command=_escaped(shlex.join(program.command)),
        autorestart="true",
        startsecs=str(program.start_seconds),
        # For ever: each attempt waits one second longer than the one before.
        startretries="1000000",
        stopsignal="TERM",
        stopwaitsecs=str(program.stop_seconds),
        killasgroup="true",
        redirect_stderr="true",
        stdout_logfile=_escaped(settings.home / "logs" / f"{program.name}.log"),
        stdout_logfile_maxbytes="10MB",
        stdout_logfile_backups="2",
        # Ended in the opposite order, a group at once; those that are in a group go by the group's number.
        priority="10",
    )


def _section(header: str, **options: str) -> str:
    lines = (f"{name} = {value}" for name, value in options.items())
    return "\n".join([f"[{header}]", *lines, ""])


def _escaped(value: str | Path) -> str:
    """The supervisor expands `%(…)s` in every value."""
    return str(value).replace("%", "%%")
