"""`pipelit generate`: files that are made from declarations in the code, and the check that they are fresh."""

from collections.abc import Mapping
from pathlib import Path

import click

from pipelit.launcher.reference import configuration_page, example_environment
from pipelit.nodes import reference

ROOT = Path(__file__).parents[2]


def artefacts() -> Mapping[str, str]:
    """Every generated file of the repository: its path and what belongs in it."""
    return {
        ".env.example": example_environment(),
        "docs/configuration.md": configuration_page(),
        **{f"docs/nodes/{name}": text for name, text in reference.pages().items()},
    }


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail when a file is not what it would be.")
def generate(check: bool) -> None:
    """Write the API description and the reference pages of nodes and settings (in a checkout)."""
    stale = {path: content for path, content in artefacts().items() if _read(ROOT / path) != content}
    if check and stale:
        raise click.ClickException(f"not fresh: {', '.join(stale)}; run `make generate` and commit what it writes.")
    for path, content in stale.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(content, encoding="utf-8")
        click.echo(f"wrote {path}")


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
