"""Which pages of a loop's lists are needed and complete, whatever the order in which its iterations end."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipelit.engine.core.commands import RunStep
from pipelit.engine.core.events import Started, StepIterating, StepSucceeded
from pipelit.engine.core.graph import Edge, Loop, NodeId, On, Plan, PlanNode
from pipelit.engine.core.scheduler import advance
from pipelit.engine.core.state import Progress, State, StepId
from pipelit.engine.pages import PAGE, Pages, begun, is_complete, page_count, page_range
from tests.support.examples import examples

START, EACH, BODY = NodeId("start"), NodeId("each"), NodeId("body")
LOOP = StepId(EACH)


def plan(concurrency: int) -> Plan:
    nodes = (PlanNode(START, "trigger_manual"), PlanNode(EACH, "loop"), PlanNode(BODY, "template", loop=EACH))
    return Plan(
        workflow_id=1,
        trigger=START,
        nodes={node.id: node for node in nodes},
        edges=(Edge(START, EACH), Edge(EACH, BODY, On.BODY)),
        loops={EACH: Loop(EACH, (BODY,), concurrency)},
    )


@examples(40)
@given(st.integers(1, 3 * PAGE), st.integers(1, 100), st.randoms(use_true_random=False))
def test_every_page_is_fetched_before_its_items_and_put_away_once_after_its_results(
    total: int, concurrency: int, chance: random.Random
) -> None:
    graph, state = plan(concurrency), State()
    state, _ = advance(graph, state, Started())
    before, ready = Progress(total), []
    fetched, put_away, results = [0], Counter[int](), set[int]()
    state, commands = advance(graph, state, StepIterating(LOOP, 1, total))
    while True:
        progress = state.steps[LOOP].progress
        if progress is not None:
            fetched += begun(before.following, progress.following)
            before = progress
        ready += [command.step for command in commands if isinstance(command, RunStep)]
        assert all(step.scope[-1][1] // PAGE in fetched for step in ready), (
            "an item was started before its page was there"
        )
        if not ready:
            break
        step = ready.pop(chance.randrange(len(ready)))
        index = step.scope[-1][1]
        results.add(index)
        state, commands = advance(graph, state, StepSucceeded(step, 1))
        progress = state.steps[LOOP].progress
        if progress is not None and is_complete(index // PAGE, progress):
            put_away[index // PAGE] += 1
            assert results >= set(page_range(index // PAGE, total)), "a page was put away without some of its results"

    assert fetched == list(range(page_count(total)))
    assert set(put_away.values()) <= {1}
    assert len(put_away) >= page_count(total) - 1, "only what ends with the loop stays until then"


@given(st.integers(0, 5 * PAGE))
def test_pages_hold_every_index_once(total: int) -> None:
    indexes = [index for number in range(page_count(total)) for index in page_range(number, total)]

    assert indexes == list(range(total))


def test_lists_have_names_of_their_own() -> None:
    names = {
        make(execution, StepId.parse(loop), attempt).name
        for make in (Pages.of_items, Pages.of_results)
        for execution in ("one", "two")
        for loop in ("each", "each@rows:1", "each@rows:11")
        for attempt in (1, 2)
    }

    assert len(names) == 2 * 2 * 3 * 2
    assert Pages.of_items("one", LOOP, 1) == Pages.of_items("one", LOOP, 1)
