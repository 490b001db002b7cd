"""Every code that somebody can be shown has a paragraph."""

import re
from collections.abc import Iterator
from pathlib import Path

import pipelit.api
from pipelit.errors import PipelitError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text()

OF_HTTP = {"bad_request", "method_not_allowed", "unsupported_media_type"}
"""Refusals of the framework, before any code of ours runs."""


assert pipelit.api, "imported for the errors that the API declares itself"


def declared(kind: type[PipelitError] = PipelitError) -> Iterator[str]:
    yield kind.code
    for narrower in kind.__subclasses__():
        if narrower.__module__.startswith("pipelit."):
            yield from declared(narrower)


def test_every_error_code_has_a_paragraph() -> None:
    explained = dict(re.findall(r"^### `(\w+)`\n(.+)$", PAGE, re.MULTILINE))

    assert set(declared()) | OF_HTTP == set(explained)
    assert all(len(paragraph) > 20 for paragraph in explained.values())


def test_every_problem_of_a_graph_is_in_the_table() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "pipelit").rglob("*.py"))
    used = set(re.findall(r"\bProblem\(\s*\"(\w+)\"", sources))

    assert used == set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
