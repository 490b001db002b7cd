"""The rules of the house are programs, and the suite runs them: what they refuse does not land."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

RULES = {
    "style": ("ruff", "check", "."),
    "format": ("ruff", "format", "--check", "."),
    "types": ("mypy",),
    "import contracts": ("lint-imports",),
    "spelling": ("codespell",),
    "generated files": ("pipelit", "generate", "--check"),
}


@pytest.mark.parametrize("command", RULES.values(), ids=RULES.keys())
def test_the_rules_of_the_house_hold(command: tuple[str, ...]) -> None:
    program, *arguments = command

    checked = subprocess.run([BIN / program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr
