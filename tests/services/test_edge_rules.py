"""What an edge may join, whatever node types there are."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelit.nodes import registry
from pipelit.nodes.base import NodeType, ProviderNode, StepConfig, StepContext, StepNode
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Category, DataType, EdgeLabel, Port
from pipelit.services import edge_rules
from pipelit.services.drafts import EdgeDraft
from pipelit.services.edge_rules import End


class Model(ProviderNode[Any]):
    """Gives a model."""

    type, title, category, icon = "model", "Model", Category.AI, "brain"
    provides = EdgeLabel.LLM


class Thinker(StepNode[StepConfig]):
    """Takes a model and tools."""

    type, title, category, icon = "thinker", "Thinker", Category.AI, "bot"
    inputs = (Port("input", DataType.STRING), Port("files", DataType.ARRAY))
    outputs = (Port("output", DataType.STRING), Port("messages", DataType.MESSAGES))
    sub_inputs = (EdgeLabel.LLM, EdgeLabel.TOOL)

    def run(self, config: StepConfig, context: StepContext) -> Completed:
        return Completed({"output": "", "messages": []})


class Lookup(StepNode[StepConfig]):
    """A tool that is a step, too, and takes no data."""

    type, title, category, icon = "lookup", "Lookup", Category.TOOL, "search"
    outputs = (Port("count", DataType.NUMBER), Port("found", DataType.ANY))
    is_tool = True

    def run(self, config: StepConfig, context: StepContext) -> Completed:
        return Completed({"count": 0, "found": None})


def ends() -> dict[str, End]:
    """One node of each kind, named after it."""
    known = registry.load()
    types: dict[str, NodeType[Any]] = {
        "hook": known["trigger_webhook"],
        "switch": known["switch"],
        "loop": known["loop"],
        "merge": known["merge"],
        "model": Model(),
        "thinker": Thinker(),
        "lookup": Lookup(),
    }
    found = {name: End(name, node_type, {}) for name, node_type in types.items()}
    return found | {"gone": End("gone", None, {})}


def complaints(source: str, target: str, **more: Any) -> list[tuple[str, str]]:
    return edge_rules.complaints(EdgeDraft(source, target, **more), ends())


@pytest.mark.parametrize(
    ("source", "target", "more"),
    [
        ("hook", "merge", {}),
        ("hook", "merge", {"source_port": "payload", "target_port": "input"}),
        ("hook", "thinker", {"source_port": "method"}),
        ("hook", "thinker", {}),
        ("hook", "lookup", {}),
        ("lookup", "merge", {"source_port": "error"}),
        ("thinker", "merge", {"source_port": "messages"}),
        ("model", "thinker", {"edge_label": "llm"}),
        ("lookup", "thinker", {"edge_label": "tool"}),
        ("loop", "thinker", {"edge_label": "loop_body"}),
        ("thinker", "loop", {"edge_label": "loop_return"}),
        ("switch", "merge", {"edge_type": "conditional", "condition_value": "default"}),
        ("switch", "merge", {"edge_type": "conditional", "condition_mapping": {"default": "merge", "x": "hook"}}),
        ("switch", "merge", {}),
        ("gone", "merge", {"source_port": "whatever"}),
    ],
)
def test_an_edge_that_fits_is_not_complained_about(source: str, target: str, more: dict[str, Any]) -> None:
    assert complaints(source, target, **more) == []


@pytest.mark.parametrize(
    ("source", "target", "more", "field", "says"),
    [
        ("mergee", "merge", {}, "source_node_id", "Did you mean 'merge'?"),
        ("merge", "merge", {}, "target_node_id", "to itself"),
        ("switch", "hook", {}, "target_node_id", "is a trigger"),
        ("switch", "hook", {"edge_label": "loop_body"}, "target_node_id", "is a trigger"),
        ("lookup", "thinker", {}, "target_node_id", "NUMBER (count), ANY (found)"),
        ("hook", "thinker", {"source_port": "headers"}, "source_port", "OBJECT (headers)"),
        ("hook", "thinker", {"target_port": "files"}, "target_port", "ARRAY (files)"),
        ("hook", "thinker", {"source_port": "method", "target_port": "files"}, "source_port", "none of these fit"),
        ("hook", "merge", {"source_port": "bdy"}, "source_port", "it has body, headers"),
        ("hook", "merge", {"source_port": "error"}, "source_port", "no output 'error'"),
        ("hook", "lookup", {"target_port": "input"}, "target_port", "it has none"),
        ("hook", "thinker", {"edge_label": "llm"}, "edge_label", "does not provide 'llm'"),
        ("model", "thinker", {"edge_label": "memory"}, "edge_label", "does not take 'memory'"),
        ("merge", "thinker", {"edge_label": "tool"}, "edge_label", "does not provide 'tool'"),
        ("model", "merge", {"edge_label": "llm"}, "edge_label", "does not take 'llm'"),
        ("model", "merge", {}, "source_node_id", "does not run as a step"),
        ("merge", "model", {}, "target_node_id", "nothing leads to it"),
        ("switch", "merge", {"edge_label": "loop_body"}, "edge_label", "starts at a loop"),
        ("merge", "switch", {"edge_label": "loop_return"}, "edge_label", "ends at a loop"),
        ("hook", "loop", {"edge_label": "loop_return"}, "edge_label", "not at a trigger"),
        ("hook", "merge", {"condition_value": "vip"}, "condition_value", "Only a conditional edge"),
        ("switch", "merge", {"edge_type": "conditional"}, "condition_value", "Name the route"),
        ("switch", "merge", {"edge_type": "conditional", "condition_value": "gold"}, "condition_value", "has default"),
        (
            "switch",
            "merge",
            {"edge_type": "conditional", "condition_mapping": {"gold": "merge"}},
            "condition_mapping",
            "no route 'gold'",
        ),
        ("merge", "switch", {"edge_type": "conditional", "condition_value": "x"}, "edge_type", "chooses none"),
        (
            "switch",
            "merge",
            {"edge_type": "conditional", "condition_value": "default", "source_port": "error"},
            "edge_type",
            "carries data",
        ),
    ],
)
def test_an_edge_that_does_not_fit_is_complained_about_by_field(
    source: str, target: str, more: dict[str, Any], field: str, says: str
) -> None:
    found = dict(complaints(source, target, **more))

    assert field in found
    assert says in found[field]


def test_edges_that_say_the_same_are_found_whatever_their_order_and_priority() -> None:
    edges = [
        EdgeDraft("a", "b"),
        EdgeDraft("a", "b", priority=3),
        EdgeDraft("a", "b", source_port="body"),
        EdgeDraft("a", "b", edge_type="conditional", condition_value="x"),
        EdgeDraft("a", "b", edge_type="conditional", condition_mapping={"x": "b", "y": "c"}),
    ]

    assert list(edge_rules.repeated(edges)) == [1, 4]


def test_a_circle_is_named_along_its_edges_and_returns_of_loops_are_none() -> None:
    edges = [
        EdgeDraft("a", "b"),
        EdgeDraft("b", "c"),
        EdgeDraft("c", "a"),
        EdgeDraft("c", "b", edge_label="loop_return"),
    ]

    [(position, message)] = edge_rules.circles(edges)

    assert position == 2
    assert message.startswith("a → b → c → a ")


def test_a_graph_full_of_circles_is_reported_in_part_and_at_once() -> None:
    edges = [EdgeDraft(f"n{a}", f"n{b}") for a in range(100) for b in range(100) if a != b]

    assert len(list(edge_rules.circles(edges))) == edge_rules.MOST_CIRCLES


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=15, unique=True))
def test_circles_are_found_exactly_where_there_are_some(pairs: list[tuple[int, int]]) -> None:
    edges = [EdgeDraft(str(a), str(b)) for a, b in pairs if a != b]

    found = list(edge_rules.circles(edges))

    assert bool(found) is not _can_be_ordered({(edge.source_node_id, edge.target_node_id) for edge in edges})
    rest = [edge for at, edge in enumerate(edges) if at not in {position for position, _ in found}]
    assert len(found) >= edge_rules.MOST_CIRCLES or list(edge_rules.circles(rest)) == []


def _can_be_ordered(pairs: set[tuple[str, str]]) -> bool:
    """Whether the nodes can be put in a row so that all edges lead forward: take away what nothing leads to."""
    while pairs:
        sources, targets = {source for source, _ in pairs}, {target for _, target in pairs}
        first = sources - targets
        if not first:
            return False
        pairs = {pair for pair in pairs if pair[0] not in first}
    return True
