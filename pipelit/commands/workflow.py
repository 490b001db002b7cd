"""`pipelit import` and `pipelit export`: workflows as files."""

import json
from collections.abc import Mapping
from pathlib import Path

import click

from pipelit.api.schemas.graph import parse
from pipelit.commands.context import application
from pipelit.errors import Invalid
from pipelit.nodes.ports import Json
from pipelit.services import graph, workflows


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_workflow(file: Path) -> None:
    """Make a workflow from a JSON file that `pipelit export` wrote. Nothing in it is executed."""
    with application():
        workflow = workflows.import_(parse(_document(file)), by=None)
        click.echo(f"Imported as {workflow.slug}.")


@click.command("export")
@click.argument("slug")
def export_workflow(slug: str) -> None:
    """Write a workflow as JSON, without its secrets, to standard output."""
    with application():
        click.echo(json.dumps(graph.export(slug), indent=2, ensure_ascii=False))


def _document(file: Path) -> Mapping[str, Json]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{file} is not JSON: {error}.") from None
    if not isinstance(document, dict):
        raise Invalid(f"{file} is not a workflow: it must be an object with nodes and edges.")
    return document
