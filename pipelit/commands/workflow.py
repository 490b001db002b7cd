"""`pipelit import` and `pipelit export`: workflows as files."""

import json
from pathlib import Path

import click

from pipelit.api.schemas.graph import parse
from pipelit.commands.context import application
from pipelit.errors import Invalid
from pipelit.services import graph, workflows


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_workflow(file: Path) -> None:
    """Make a workflow from a JSON file that `pipelit export` wrote; it belongs to the installation."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Invalid(f"{file} is not JSON: {error}.") from None
    with application():
        workflow = workflows.import_(parse(document), by=None)
        click.echo(f"Imported as {workflow.slug}.")


@click.command("export")
@click.argument("slug")
def export_workflow(slug: str) -> None:
    """Write a workflow as JSON to standard output."""
    with application():
        click.echo(json.dumps(graph.export(slug), indent=2, ensure_ascii=False))
