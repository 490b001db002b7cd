"""docs/engine.md names the stories that show what it says; they are there."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_every_story_that_the_tables_name_is_told() -> None:
    page = (TESTS.parent / "docs" / "engine.md").read_text(encoding="utf-8")
    tables = page.partition("## When something dies")[2]
    named = {name for row in tables.splitlines() if row.startswith("|") for name in stories(row)}
    told = {
        name for file in TESTS.rglob("test_*.py") for name in re.findall(r"def test_(\w+)", file.read_text("utf-8"))
    }

    assert len(named) > 30
    assert named - told == set()


def stories(row: str) -> list[str]:
    """The names in a row's last column."""
    return re.findall(r"`(\w+)`", row.rstrip(" |").rpartition("|")[2])
