"""One value out of many."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from marshmallow import fields, validate

from pipelit.errors import ConfigError
from pipelit.nodes.base import StepConfig, StepContext, StepNode
from pipelit.nodes.inputs import appended, list_of
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Category, DataType, Json, Port
from pipelit.nodes.settings import config, setting
from pipelit.nodes.values import MISSING, as_number, as_text, described, find, identity, order

OPERATIONS = ["count", "sum", "avg", "min", "max", "group", "concat", "unique"]


@config
class AggregatorConfig(StepConfig):
    """What to compute, of what."""

    operation: str = setting(
        fields.String(validate=validate.OneOf(OPERATIONS)), title="Operation", default="count", is_literal=True
    )
    items: Json = setting(
        fields.Raw(allow_none=True),
        title="Items",
        help="The list; empty means all that came in, lists item by item.",
        default=None,
        widget="expression",
    )
    field: str = setting(
        fields.String(validate=validate.Length(max=300)),
        title="Field",
        help="The path inside an item; empty means the item itself.",
        default="",
    )
    by: str | None = setting(
        fields.String(validate=validate.Length(min=1, max=300)),
        title="By",
        help="The path inside an item by whose value the items are grouped; the result is then an object by group.",
        default=None,
    )
    separator: str = setting(
        fields.String(validate=validate.Length(max=100)),
        title="Separator",
        help="Stands between the texts.",
        default=", ",
        visible_when={"operation": "concat"},
    )

    @staticmethod
    def problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Grouping needs something to group by."""
        if values.get("operation") == "group" and not values.get("by"):
            yield "by", "Name the path by which the items are grouped."


class Aggregator(StepNode[AggregatorConfig]):
    """Computes one value from the items of a list, or from all that came in.

    `count`, `sum`, `avg`, `min`, `max`, `concat` (texts, with a separator), `unique` (each value once, in the order of
    their first appearance) and `group` (the items by the value at `by`). Items where the field is missing or null are
    left out, as in SQL; a field that is no number makes `sum` and `avg` fail and names the item. Of no items `sum` is
    0, `avg`, `min` and `max` are null. `min` and `max` compare numbers, or texts that are times. With `by` every other
    operation is done for each group, too.
    """

    type = "aggregator"
    title = "Aggregate"
    category = Category.LOGIC
    icon = "sigma"
    inputs = (Port("input", DataType.ANY, "Lists or single items, unless the setting names a list."),)
    outputs = (Port("output", DataType.ANY, "The result."),)
    example = {"operation": "sum", "items": "{{ trigger.payload.items }}", "field": "price"}
    is_pure = True
    Config = AggregatorConfig

    def run(self, config: AggregatorConfig, context: StepContext) -> Completed:
        items = appended(context.inputs) if config.items is None else list_of(config.items, context.inputs, "items")
        if config.by is None:
            return Completed({"output": _aggregate(config, items)})
        groups = _groups(items, config.by)
        return Completed({"output": {name: _aggregate(config, group) for name, group in groups.items()}})


def _groups(items: list[Json], by: str) -> dict[str, list[Json]]:
    """The items by group. A group is named by the text, or the JSON, of its value; "null" holds those without one."""
    groups: dict[str, list[Json]] = {}
    for item in items:
        value = find(item, by)
        name = value if isinstance(value, str) else identity(None if value is MISSING else value)
        groups.setdefault(name, []).append(item)
    return groups


def _aggregate(config: AggregatorConfig, items: list[Json]) -> Json:
    if config.operation == "group":
        return items
    found = [(index, find(item, config.field)) for index, item in enumerate(items)]
    present = [(index, value) for index, value in found if value is not MISSING and value is not None]
    match config.operation:
        case "count":
            return len(present) if config.field else len(items)
        case "sum":
            return _sum(present, config)
        case "avg":
            return _average(present, config)
        case "min":
            return _extreme(present, config, sign=-1)
        case "max":
            return _extreme(present, config, sign=1)
        case "concat":
            return config.separator.join(_texts(present, config))
        case _:
            return _distinct(present)


def _sum(present: list[tuple[int, Any]], config: AggregatorConfig) -> int | float:
    """Exact for integers, and for fractions rounded once at the end."""
    numbers: list[int | float] = []
    for index, value in present:
        number = as_number(value)
        if number is None:
            raise _unfit(config, index, value, "a number")
        numbers.append(number)
    if all(isinstance(number, int) for number in numbers):
        return sum(numbers)
    try:
        total = math.fsum(numbers)
    except OverflowError:
        raise ConfigError("operation: the numbers are too large to add up.") from None
    return total


def _average(present: list[tuple[int, Any]], config: AggregatorConfig) -> float | None:
    try:
        return _sum(present, config) / len(present) if present else None
    except OverflowError:
        raise ConfigError("operation: the numbers are too large for an average.") from None


def _distinct(present: list[tuple[int, Any]]) -> list[Json]:
    found: dict[str, Json] = {}
    for _, value in present:
        found.setdefault(identity(value), value)
    return list(found.values())


def _extreme(present: list[tuple[int, Any]], config: AggregatorConfig, *, sign: int) -> Json:
    if not present:
        return None
    best: Any = present[0][1]
    for index, value in present:
        compared = order(value, best)
        if compared is None:
            raise _unfit(config, index, value, f"comparable with {described(best)}")
        if compared == sign:
            best = value
    return best  # type: ignore[no-any-return]  # it came out of JSON


def _texts(present: list[tuple[int, Any]], config: AggregatorConfig) -> Iterator[str]:
    for index, value in present:
        text = as_text(value)
        if text is None:
            raise _unfit(config, index, value, "a text")
        yield text


def _unfit(config: AggregatorConfig, index: int, value: object, wanted: str) -> ConfigError:
    where = f"'{config.field}' of item {index}" if config.field else f"item {index}"
    return ConfigError(f"field: {config.operation} needs {wanted}, but {where} is {described(value)}.")
