"""`pipelit user`: accounts, for when there is no administrator to make one."""

import click

from pipelit.api.schemas.account import UserArguments
from pipelit.api.schemas.base import load
from pipelit.commands.context import application
from pipelit.models.user import Role
from pipelit.services import users


@click.group()
def user() -> None:
    """Manage the people who may sign in."""


@user.command()
@click.argument("username")
@click.option("--role", type=click.Choice([role.value for role in Role]), default=Role.NORMAL.value, show_default=True)
@click.option("--password", envvar="PIPELIT_PASSWORD", prompt=True, hide_input=True, confirmation_prompt=True)
def create(username: str, role: str, password: str) -> None:
    """Make an account; the password is asked for."""
    load(UserArguments(), {"username": username, "password": password, "role": role})
    with application():
        users.create(username, password, Role(role))
    click.echo(f"{username} can sign in now.")
