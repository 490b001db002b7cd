"""What came in along the edges, as one value."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelit.errors import ConfigError
from pipelit.nodes.base import Input
from pipelit.nodes.ports import Json
from pipelit.nodes.settings import is_template
from pipelit.nodes.values import described


def passed_on(inputs: Sequence[Input]) -> Json:
    """The value that the one taken edge brought, or, if there were several, an object of the values by node.

    Where a node brought several, by several edges, the name is followed by the port: `node.port`. Nothing came: null.
    """
    if len(inputs) <= 1:
        return inputs[0].value if inputs else None
    nodes = [each.node_id for each in inputs]
    named: dict[str, Json] = {}
    for index, each in enumerate(inputs):
        name = each.node_id if nodes.count(each.node_id) == 1 else f"{each.node_id}.{each.port or index}"
        named[name] = each.value
    return named


def appended(inputs: Sequence[Input]) -> list[Json]:
    """One list of all that came: lists item by item, anything else as an item."""
    return [item for each in inputs for item in _items(each.value)]


def list_of(given: Json, inputs: Sequence[Input], setting: str) -> list[Json]:
    """The list that a setting gives or, when it gives null, the edges. Raises `ConfigError` when that is no list."""
    value, source = (given, setting) if given is not None else (passed_on(inputs), "the input")
    if isinstance(value, list):
        return value
    raise ConfigError(f"{setting}: {_no_list(value, source)}")


def list_problems(values: Mapping[str, Any], setting: str) -> Iterator[tuple[str, str]]:
    """What is wrong with such a setting as far as it can be told beforehand: it is there, and no list."""
    value = values.get(setting)
    if value is not None and not isinstance(value, list) and not is_template(value):
        yield setting, _no_list(value, setting)


def _no_list(value: Json, source: str) -> str:
    return f"{source} is not a list but {described(value)}. Name the list by an expression."


def _items(value: Json) -> Iterator[Json]:
    if isinstance(value, list):
        yield from value
    else:
        yield value
