"""Generated files are what the code says."""

from pathlib import Path

from click.testing import CliRunner

from pipelit.commands.generate import ROOT, artefacts, generate
from tests.commands.conftest import Command


def test_every_generated_file_is_fresh():
    checked = CliRunner().invoke(generate, ["--check"])

    assert checked.exit_code == 0, checked.output


def test_the_same_code_gives_the_same_files():
    assert artefacts() == artefacts()
    assert {Path("docs/openapi.json"), Path("docs/configuration.md")} <= set(artefacts())
    assert (ROOT / "setup.cfg").is_file()


def test_every_node_type_in_use_is_installed(pipelit: Command):
    checked = pipelit("nodes", "check")

    assert checked.returncode == 0, checked.stderr
    assert "every type in use is among them" in checked.stdout
