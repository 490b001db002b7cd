"""Where the time goes when real processes run the steps: on each way through a workflow, what the clock says."""

from typing import Any

import pytest

from pipelit.extensions import transaction
from pipelit.models import ExecutionLog, UserProfile, WorkflowExecution
from pipelit.models.execution import TIMES
from pipelit.services import executions
from tests.support.crew import Crew
from tests.support.workflows import Nodes, build

WITHIN = 0.02
"""The part of the wall clock that may be missing, or too much."""

NODES: Nodes = {
    "start": ("trigger_manual", {}),
    "hello": ("template", {"template": "Hello {{ trigger.text }}"}),
    "pause": ("wait", {"seconds": 0.3}),
    "each": ("loop", {"items": "{{ range(10) | list }}"}),
    "body": ("template", {"template": "{{ loop.item }}"}),
    "call": (
        "http_request",
        {
            "url": "http://127.0.0.1:1/",
            "failure": {"retry": {"attempts": 2, "initial": 0.2}, "on_error": "default", "default": {"body": ""}},
        },
    ),
    "left": ("template", {"template": "left"}),
    "right": ("wait", {"seconds": 0.4}),
    "join": ("merge", {}),
}
CHAIN = "start -> hello; hello -> pause; pause -> each; each =body=> body; body =return=> each; each -> call"


def spent(row: WorkflowExecution, *nodes: str) -> float:
    """All the times of the rows of these nodes, or of all."""
    logs: list[ExecutionLog] = [log for log in row.logs if not nodes or log.node_id in nodes]
    return sum(getattr(log, kind) or 0.0 for log in logs for kind in TIMES)


@pytest.mark.parametrize("placement", ["chained", "local"])
@pytest.mark.parametrize("durability", ["async", "sync"])
def test_the_times_are_the_wall_clock_on_each_way_through_a_workflow(
    crew: Crew, placement: str, durability: str
) -> None:
    with transaction() as session:
        ada = UserProfile(username="ada", role="admin")
        session.add(ada)
    crew.start("steps", "steps", "system")
    about: dict[str, Any] = {"placement": placement, "durability": durability}
    in_chain = {name: node for name, node in NODES.items() if name not in ("left", "right", "join")}
    beside = {name: node for name, node in NODES.items() if name in ("start", "left", "right", "join")}
    chain = build(in_chain, CHAIN, name="Chain", **about)
    sides = build(beside, "start -> left; start -> right; left -> join; right -> join", name="Sides", **about)

    one = crew.wait_for(executions.start(chain.slug, by=ada, text="Ada"), seconds=90)
    two = crew.wait_for(executions.start(sides.slug, by=ada), seconds=90)

    assert one.wall_ms is not None
    assert two.wall_ms is not None
    assert spent(one) == pytest.approx(one.wall_ms, rel=WITHIN)
    # The longer of the two ways is what the clock says; what ran beside it comes on top.
    assert spent(two, "right", "join") == pytest.approx(two.wall_ms, rel=WITHIN)
    assert spent(two) > two.wall_ms
