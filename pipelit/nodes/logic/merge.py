"""Bringing branches together."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from marshmallow import fields, validate

from pipelit.errors import ConfigError
from pipelit.nodes.base import Input, StepConfig, StepContext, StepNode
from pipelit.nodes.inputs import appended, passed_on
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Category, DataType, Json, Port
from pipelit.nodes.settings import config, setting
from pipelit.nodes.values import MISSING, described, find, identity

MODES = ["all", "any", "append", "combine_by_key", "combine_by_position"]


@config
class MergeConfig(StepConfig):
    """How the branches become one value."""

    mode: str = setting(
        fields.String(validate=validate.OneOf(MODES)),
        title="Mode",
        help="Wait for all branches, take the first, append lists, or combine their items by a key or by position.",
        default="all",
        is_literal=True,
    )
    key: str | None = setting(
        fields.String(validate=validate.Length(min=1, max=300)),
        title="Key",
        help="The path inside an item whose value says which items belong together.",
        default=None,
        visible_when={"mode": "combine_by_key"},
    )

    @staticmethod
    def problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Combining by a key needs one."""
        if values.get("mode") == "combine_by_key" and not values.get("key"):
            yield "key", "Name the key by which items belong together."


class Merge(StepNode[MergeConfig]):
    """Brings branches together that a switch, or several edges, had parted.

    - **all** waits until every branch has come or is known to be skipped. If one branch came, `output` is its value; if
      several, an object of the values by node.
    - **any** goes on with the first branch that comes.
    - **append** makes one list: lists item by item, other values as items, in the order of the edges.
    - **combine_by_key** joins the objects of several lists that have the same value at `key`; an item without a partner
      stays as it is, and where two have the same member, the later edge's counts.
    - **combine_by_position** joins the first items of all lists, the second, and so on: objects member by member, other
      values as a list.
    """

    type = "merge"
    title = "Merge"
    category = Category.LOGIC
    icon = "merge"
    inputs = (Port("input", DataType.ANY, "Any number of branches."),)
    outputs = (Port("output", DataType.ANY, "The branches as one value."),)
    example = {"mode": "append"}
    is_pure = True
    Config = MergeConfig

    def waits_for_all(self, values: Mapping[str, Json]) -> bool:
        return values.get("mode", "all") != "any"

    def run(self, config: MergeConfig, context: StepContext) -> Completed:
        match config.mode:
            case "all":
                output = passed_on(context.inputs)
            case "any":
                output = passed_on(context.inputs[:1])
            case "append":
                output = appended(context.inputs)
            case "combine_by_key":
                output = _by_key(context.inputs, config.key or "")
            case _:
                output = _by_position(context.inputs)
        return Completed({"output": output})


def _by_key(inputs: Sequence[Input], key: str) -> list[Json]:
    combined: list[Json] = []
    places: dict[str, dict[str, Json]] = {}
    for each in inputs:
        for item in _list(each):
            if not isinstance(item, dict):
                raise ConfigError(f"mode: combine_by_key joins objects, but {each.node_id} brought {described(item)}.")
            place = find(item, key)
            known = None if place is MISSING else places.get(name := identity(place))
            if known is not None:
                known.update(item)
                continue
            copied = dict(item)
            combined.append(copied)
            if place is not MISSING:
                places[name] = copied
    return combined


def _by_position(inputs: Sequence[Input]) -> list[Json]:
    rows = zip_longest(*(_list(each) for each in inputs), fillvalue=MISSING)
    return [_joined([item for item in row if item is not MISSING]) for row in rows]


def _joined(items: list[Any]) -> Json:
    if not all(isinstance(item, dict) for item in items):
        return items
    return {name: value for item in items for name, value in item.items()}


def _list(each: Input) -> list[Json]:
    if isinstance(each.value, list):
        return each.value
    raise ConfigError(
        f"mode: combining needs a list from every branch, but {each.node_id} brought {described(each.value)}."
    )
