"""`pipelit migrate`, `pipelit vacuum` and `pipelit rotate-keys`."""

import click

from pipelit import telemetry
from pipelit.assembly import assemble
from pipelit.commands.context import application
from pipelit.launcher import database, stored
from pipelit.launcher.environment import load_settings, prepare_home
from pipelit.services import credentials, space


@click.command()
def migrate() -> None:
    """Bring the database to the newest revision."""
    settings = load_settings()
    telemetry.configure(settings)
    prepare_home(settings)
    stored.check(settings)
    with assemble(settings).app_context():
        database.upgrade()
    click.echo("The database is up to date.")


@click.command()
def vacuum() -> None:
    """Write a SQLite file anew without its free space; stop everything else before."""
    with application():
        before, after = space.compact()
    if before:
        click.echo(f"The database had {before:,} bytes and has {after:,} now.")
    else:
        click.echo("The database is not a SQLite file: PostgreSQL reuses free space by itself.")


@click.command("rotate-keys")
def rotate_keys() -> None:
    """Encrypt every stored credential with the first key of FIELD_ENCRYPTION_KEY."""
    with application():
        count = credentials.rotate_keys()
    click.echo(f"{count} stored secret(s) are now encrypted with the first key; the others may be removed.")
