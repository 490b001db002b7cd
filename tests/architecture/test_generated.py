"""Files that are made from declarations in the code are what they would be if they were made now."""

from pathlib import Path

import pytest

from pipelit.nodes.reference import pages, write_pages

NODE_PAGES = Path(__file__).parents[2] / "docs" / "nodes"


@pytest.mark.parametrize(("name", "text"), sorted(pages().items()), ids=sorted(pages()))
def test_the_page_of_a_node_type_is_fresh(name: str, text: str) -> None:
    assert (NODE_PAGES / name).read_text(encoding="utf-8") == text, "run `make generate` and commit what it writes"


def test_there_is_no_page_of_a_node_type_that_is_gone() -> None:
    assert {path.name for path in NODE_PAGES.iterdir()} == set(pages())


def test_writing_the_pages_removes_those_that_are_stale(tmp_path: Path) -> None:
    (tmp_path / "trigger_gone.md").write_text("# Gone", encoding="utf-8")

    write_pages(tmp_path)

    assert {path.name for path in tmp_path.iterdir()} == set(pages())
