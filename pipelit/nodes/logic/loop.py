"""Doing something once for each item."""

from collections.abc import Iterator, Mapping
from typing import Any

from marshmallow import fields, validate

from pipelit.errors import TooManyItems
from pipelit.nodes.base import LoopingNode, StepConfig, StepContext
from pipelit.nodes.inputs import list_of, list_problems
from pipelit.nodes.outcome import Iterating
from pipelit.nodes.ports import Category, DataType, Json, Port
from pipelit.nodes.settings import config, setting

MOST_ITEMS = 1_000_000
"""However they are batched: longer lists belong into several executions."""


@config
class LoopConfig(StepConfig):
    """The items, and how the iterations run."""

    items: Json = setting(
        fields.Raw(allow_none=True),
        title="Items",
        help="The list; empty means what came in.",
        default=None,
        widget="expression",
    )
    concurrency: int = setting(
        fields.Integer(validate=validate.Range(1, 100)),
        title="At once",
        help="How many iterations may run at the same time; 1 means one after the other.",
        default=1,
        is_literal=True,
    )
    on_error: str = setting(
        fields.String(validate=validate.OneOf(["stop", "continue", "collect"])),
        title="When an iteration fails",
        help="Fail the loop, put null in the failed one's place, or put the error there.",
        default="stop",
        is_literal=True,
    )
    max_iterations: int = setting(
        fields.Integer(validate=validate.Range(1, MOST_ITEMS)),
        title="At most",
        help="A longer list makes the loop fail before it begins.",
        default=10_000,
    )
    batch_size: int | None = setting(
        fields.Integer(validate=validate.Range(1, 100_000)),
        title="Batch size",
        help="So many items make one iteration, whose item is then a list; empty: each item alone.",
        default=None,
    )

    @staticmethod
    def problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Items that no expression names have to be a list."""
        yield from list_problems(values, "items")


class Loop(LoopingNode[LoopConfig]):
    """Runs the nodes on its `loop_body` edges once for each item, and goes on when all are done.

    Inside, `{{ loop.item }}` is the item, `{{ loop.index }}` counts from 0 and `{{ loop.total }}` is their number. The
    node with the `loop_return` edge gives the iteration's result: its `output`, or all its outputs. `results` holds
    them in the order of the items, however the iterations ran; an edge that leaves the loop carries them.

    With `batch_size`, an iteration takes that many items at once, the last one what is left: `{{ loop.item }}` is the
    list of them, `loop.index` and `loop.total` count batches, and `results` has one entry for each batch.

    However long the list is, only what is being worked on stands in the live state; a list of up to a million items is
    taken, of up to `max_iterations` iterations. `results` may become larger than what a step can read, which is
    `PIPELIT_OUTPUT_BYTES`: whatever reads them then fails, the loop itself does not.
    """

    type = "loop"
    title = "Loop"
    category = Category.LOGIC
    icon = "repeat"
    inputs = (Port("items", DataType.ANY, "The list, unless the setting names one."),)
    outputs = (
        Port("item", DataType.ANY, "The current item, for the nodes of the body."),
        Port("results", DataType.ARRAY, "The results in the order of the items."),
    )
    main_port = "results"
    example = {"items": "{{ trigger.payload.items }}", "concurrency": 4, "on_error": "collect"}
    is_pure = True
    Config = LoopConfig

    def concurrency(self, values: Mapping[str, Json]) -> int:
        concurrency = values.get("concurrency")
        return concurrency if isinstance(concurrency, int) else 1

    def on_item_error(self, values: Mapping[str, Json]) -> str:
        return str(values.get("on_error", "stop"))

    def run(self, config: LoopConfig, context: StepContext) -> Iterating:
        items = list_of(config.items, context.inputs, "items")
        if len(items) > MOST_ITEMS:
            raise TooManyItems(
                f"items: the list has {len(items)} items, a loop takes at most {MOST_ITEMS}. "
                "Split the list, or filter it before the loop."
            )
        if config.batch_size is not None:
            size = config.batch_size
            items = [items[start : start + size] for start in range(0, len(items), size)]
        if len(items) > config.max_iterations:
            raise TooManyItems(
                f"max_iterations: the loop would run {len(items)} times, {config.max_iterations} are allowed. "
                "Raise the limit, or use batch_size."
            )
        return Iterating(items)
