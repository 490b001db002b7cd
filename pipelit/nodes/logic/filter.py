"""Keeping the items of a list that fulfil conditions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from marshmallow import fields, validate

from pipelit.nodes.base import StepConfig, StepContext, StepNode
from pipelit.nodes.inputs import list_of, list_problems
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Category, DataType, Json, Port
from pipelit.nodes.rules import Condition, is_met
from pipelit.nodes.settings import config, nested, setting


@config
class FilterConfig(StepConfig):
    """The list, and what is asked of each item."""

    items: Json = setting(
        fields.Raw(allow_none=True),
        title="Items",
        help="The list; empty means what came in.",
        default=None,
        widget="expression",
    )
    rules: Sequence[Condition] = setting(
        nested(Condition, many=True, validate=validate.Length(min=1, max=100), name="Condition"),
        title="Rules",
        help="Fields are paths inside an item; an empty one means the item itself.",
        widget="rules",
    )
    match: str = setting(
        fields.String(validate=validate.OneOf(["all", "any"])),
        title="Match",
        help="Whether an item must fulfil all rules or one of them.",
        default="all",
        is_literal=True,
    )

    @staticmethod
    def problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Items that no expression names have to be a list."""
        yield from list_problems(values, "items")


class Filter(StepNode[FilterConfig]):
    """Sorts a list in two: `items` fulfil the rules, `rejected` do not; both keep the order.

    An edge that names no port carries `items`. Operators and comparing are those of the switch.
    """

    type = "filter"
    title = "Filter"
    category = Category.LOGIC
    icon = "filter"
    inputs = (Port("items", DataType.ANY, "The list, unless the setting names one."),)
    outputs = (
        Port("items", DataType.ARRAY, "The items that fulfil the rules."),
        Port("rejected", DataType.ARRAY, "The others."),
    )
    main_port = "items"
    example = {
        "items": "{{ trigger.payload.items }}",
        "rules": [{"field": "price", "operator": "lte", "value": 20}],
    }
    is_pure = True
    Config = FilterConfig

    def run(self, config: FilterConfig, context: StepContext) -> Completed:
        kept: list[Json] = []
        rejected: list[Json] = []
        holds = all if config.match == "all" else any
        for item in list_of(config.items, context.inputs, "items"):
            (kept if holds(is_met(rule, item) for rule in config.rules) else rejected).append(item)
        return Completed({"items": kept, "rejected": rejected})
