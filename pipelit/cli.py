"""The console command `pipelit`: which subcommands there are, and how they say no.

A subcommand's module is imported when the subcommand is used, because the processes that turn into another program
(supervisor, web server) must not first load Celery and SQL.
"""

import os
import sys
from importlib import import_module

import click

from pipelit.errors import Invalid, PipelitError
from pipelit.launcher.lean import be_lean, importing

COMMANDS = {
    "up": "pipelit.commands.up:up",
    "server": "pipelit.commands.server:server",
    "worker": "pipelit.commands.worker:worker",
    "migrate": "pipelit.commands.database:migrate",
    "vacuum": "pipelit.commands.database:vacuum",
    "rotate-keys": "pipelit.commands.database:rotate_keys",
    "user": "pipelit.commands.user:user",
    "import": "pipelit.commands.workflow:import_workflow",
    "export": "pipelit.commands.workflow:export_workflow",
    "nodes": "pipelit.commands.nodes:nodes",
    "generate": "pipelit.commands.generate:generate",
}


class Commands(click.Group):
    """Finds a subcommand in `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        with importing():
            command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pipelit")
def commands() -> None:
    """Pipelit: draw a workflow, run it on real traffic, watch it live."""


def main() -> None:
    """A refusal is one sentence on stderr (with a line for each wrong field) and exit code 2, never a traceback."""
    # Celery reads it when it is imported: a worker told to stop gives running steps a moment, then puts them back.
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
    be_lean()
    try:
        commands()
    except PipelitError as refusal:
        click.echo(f"pipelit: {refusal.detail}", err=True)
        if isinstance(refusal, Invalid) and len(refusal.errors) > 1:
            for path, messages in refusal.errors.items():
                click.echo(f"  {path}: {' '.join(messages)}", err=True)
        sys.exit(2)
