"""`pipelit nodes`: the node types of this installation against what its workflows use."""

import click
from sqlalchemy import func, select

from pipelit.commands.context import application
from pipelit.extensions import db
from pipelit.models import WorkflowNode
from pipelit.nodes import registry


@click.group()
def nodes() -> None:
    """Look at node types."""


@nodes.command()
def check() -> None:
    """Fail when workflows use node types that are not installed: run it before a release goes live."""
    with application():
        used = select(WorkflowNode.component_type, func.count()).group_by(WorkflowNode.component_type)
        counted = dict(db.session.execute(used).tuples().all())
    known = registry.load()
    missing = {name: count for name, count in sorted(counted.items()) if name not in known}
    if missing:
        listed = ", ".join(f"{name} ({count} nodes)" for name, count in missing.items())
        raise click.ClickException(f"not installed, but in use: {listed}.")
    click.echo(f"{len(known)} node types are installed; every type in use is among them.")
