"""A node that does what no node should, in the way its configuration asks for."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from marshmallow import fields, validate

from pipelit.nodes.base import StepConfig, StepContext, StepNode
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Category, DataType, Port
from pipelit.nodes.settings import config, setting

LONG = 600

LEAVE = """
import os, sys, time
os.setsid()
if os.fork():
    sys.exit()
with open(sys.argv[1], "a") as file:
    file.write(f"{os.getpid()}\\n")
time.sleep(600)
"""


CHATTER = """
import os
for number in range(16384):
    os.write(1 + number % 2, b"x" * 65536)
"""


def busy(_note: Path) -> None:
    """Computes in Python."""
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        sum(range(1000))


def asleep(_note: Path) -> None:
    """Waits in the kernel."""
    time.sleep(LONG)


def stubborn(_note: Path) -> None:
    """Goes on whatever is raised in it."""
    until = time.monotonic() + LONG
    while time.monotonic() < until:
        try:
            time.sleep(LONG)
        except Exception:
            continue


def deaf(_note: Path) -> None:
    """Computes in C without letting go of the interpreter, as a library may."""
    sum(itertools.repeat(0))


def forking(note: Path) -> None:
    """Makes a copy of the process, lets both live, and waits."""
    child = os.fork()
    with note.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if child:
        time.sleep(LONG)
    asleep(note)


def parent(note: Path) -> None:
    """Starts programs, one of which leaves its family, and takes no notice of being stopped."""
    subprocess.Popen([sys.executable, "-c", LEAVE, str(note)])
    kept = subprocess.Popen(["/bin/sleep", str(LONG)])
    with note.open("a") as file:
        file.write(f"{kept.pid}\n")
    stubborn(note)


def copied(note: Path) -> None:
    """Makes a copy of the process that comes back as if it were the step."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)


def printing(_note: Path) -> None:
    """Prints a gigabyte."""
    line = "x" * 1024 * 1024
    for _ in range(1024):
        print(line)  # noqa: T201 (that is the point)


def writing(_note: Path) -> None:
    """Writes a gigabyte past Python's own output."""
    for number in range(1024):
        os.write(1 + number % 2, b"x" * 1024 * 1024)


def chattering(_note: Path) -> None:
    """Starts a program that prints a gigabyte."""
    subprocess.run([sys.executable, "-c", CHATTER], check=True)


def hungry(_note: Path) -> None:
    """Takes memory until there is none left."""
    kept = []
    while True:
        kept.append(bytearray(16 * 1024 * 1024))


def killed(_note: Path) -> None:
    """Is killed, as when the memory of the machine runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def leaving(_note: Path) -> None:
    """Ends the process."""
    os._exit(3)


WAYS_TO_MISBEHAVE = (
    *(busy, asleep, stubborn, deaf, forking, parent, copied),
    *(printing, writing, chattering, hungry, killed, leaving),
)
WAYS: dict[str, Callable[[Path], None]] = {way.__name__: way for way in WAYS_TO_MISBEHAVE}


@config
class UnrulyConfig(StepConfig):
    """How to misbehave."""

    way: str = setting(fields.String(validate=validate.OneOf(sorted(WAYS))), title="Way", is_literal=True)
    note: str = setting(fields.String(), title="Note", help="File to note processes in.", is_literal=True)


class Unruly(StepNode[UnrulyConfig]):
    """Misbehaves."""

    type = "unruly"
    title = "Unruly"
    category = Category.TOOL
    icon = "bomb"
    inputs = (Port("input", DataType.ANY, "Decides when the node runs."),)
    outputs = (Port("output", DataType.NUMBER, "The process it ran in."),)
    example: ClassVar[dict[str, object]] = {"way": "busy", "note": "/tmp/note"}
    Config = UnrulyConfig

    def run(self, config: UnrulyConfig, context: StepContext) -> Completed:
        note = Path(config.note)
        with note.open("a") as file:
            file.write(f"{os.getpid()}\n")
        WAYS[config.way](note)
        return Completed({"output": os.getpid()})
