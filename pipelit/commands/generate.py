"""`pipelit generate`: files that are made from declarations in the code, and the check that they are fresh."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import click

from pipelit.api import openapi
from pipelit.app import create_app
from pipelit.config import Settings
from pipelit.launcher.environment import ensure_secrets
from pipelit.launcher.reference import configuration_page, example_environment
from pipelit.nodes import reference

ROOT = Path(__file__).parents[2]
NODES = Path("docs/nodes")


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail when a file is not what it would be.")
def generate(check: bool) -> None:
    """Write the API description and the reference pages of nodes and settings (in a checkout)."""
    wanted = artefacts()
    stale = [path for path, content in wanted.items() if _read(ROOT / path) != content]
    left = [path for path in (NODES / page.name for page in (ROOT / NODES).glob("*.md")) if path not in wanted]
    if check and (stale or left):
        names = ", ".join(map(str, [*stale, *left]))
        raise click.ClickException(f"not fresh: {names}; run `make generate` and commit what it writes.")
    for path in left:
        (ROOT / path).unlink()
        click.echo(f"removed {path}")
    for path in stale:
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(wanted[path], encoding="utf-8")
        click.echo(f"wrote {path}")


def artefacts() -> Mapping[Path, str]:
    """Every generated file of the repository: its path and what belongs in it."""
    return {
        Path(".env.example"): example_environment(),
        Path("docs/configuration.md"): configuration_page(),
        Path("docs/openapi.json"): _openapi(),
        **{NODES / name: text for name, text in reference.pages().items()},
    }


def _openapi() -> str:
    """The API description, which depends on no setting: an application of defaults, connected to nothing."""
    with tempfile.TemporaryDirectory() as home:
        settings = Settings.load({**ensure_secrets(Path(home)), "PIPELIT_HOME": home})
        return openapi.text(create_app(settings))


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
