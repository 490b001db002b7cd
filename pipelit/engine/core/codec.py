"""Plans and step states as text and back; the forms that Redis and SQL keep."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from pipelit.engine.core.graph import (
    Edge,
    FailurePolicy,
    Join,
    Json,
    Loop,
    NodeId,
    On,
    OnError,
    OnItemError,
    Plan,
    PlanNode,
    Retry,
)
from pipelit.engine.core.state import Progress, StepId, StepState, StepStatus

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
"""Made once: with settings of one's own, `json.dumps` makes an encoder for each text."""


def encode_step(known: StepState) -> str:
    """A step's state as a short JSON array: status, attempt, failures, losses, route, progress."""
    progress = [known.progress.total, known.progress.following, *known.progress.open] if known.progress else None
    return json.dumps(
        [known.status, known.attempt, known.failures, known.losses, known.route, progress], separators=(",", ":")
    )


@lru_cache(maxsize=4096)
def decode_step(text: str) -> StepState:
    """Read what `encode_step` wrote. Most values recur, hence the cache."""
    status, attempt, failures, losses, route, progress = json.loads(text)
    known = Progress(progress[0], progress[1], tuple(progress[2:])) if progress is not None else None
    return StepState(StepStatus(status), attempt, failures, losses, route, known)


def delta(before: Mapping[StepId, StepState], after: Mapping[StepId, StepState]) -> tuple[dict[str, str], list[str]]:
    """What to write and what to delete so that the stored steps become `after`."""
    written = {str(step): encode_step(known) for step, known in after.items() if before.get(step) is not known}
    dropped = [str(step) for step in before if step not in after]
    return written, dropped


def encode_plan(plan: Plan) -> str:
    """A plan as canonical JSON: equal plans whose nodes, edges and loops stand in the same order give equal text."""
    return json.dumps(
        {
            "workflow_id": plan.workflow_id,
            "trigger": plan.trigger,
            "nodes": [asdict(node) for node in plan.nodes.values()],
            "edges": [asdict(edge) for edge in plan.edges],
            "loops": [asdict(loop) for loop in plan.loops.values()],
        },
        separators=(",", ":"),
        sort_keys=True,
    )


def decode_plan(text: str) -> Plan:
    """Read what `encode_plan` wrote."""
    stored = json.loads(text)
    nodes = (_node(node) for node in stored["nodes"])
    loops = (_loop(loop) for loop in stored["loops"])
    return Plan(
        workflow_id=stored["workflow_id"],
        trigger=NodeId(stored["trigger"]),
        nodes={node.id: node for node in nodes},
        edges=tuple(Edge(**{**edge, "on": On(edge["on"])}) for edge in stored["edges"]),
        loops={loop.node: loop for loop in loops},
    )


def structure_hash(plan_text: str) -> str:
    """The name of a plan's content: the first 32 hex digits of its SHA-256."""
    return hashlib.sha256(plan_text.encode()).hexdigest()[:32]


def dump_json(value: Json) -> str:
    """JSON as the engine stores it: compact, never NaN or Infinity, lone surrogates escaped."""
    return _ENCODER.encode(value)


def _node(stored: dict[str, Any]) -> PlanNode:
    policy = stored["policy"]
    retry = Retry(**policy["retry"])
    return PlanNode(
        **{
            **stored,
            "join": Join(stored["join"]),
            "reads": tuple(stored["reads"]),
            "policy": FailurePolicy(**{**policy, "retry": retry, "on_error": OnError(policy["on_error"])}),
        }
    )


def _loop(stored: dict[str, Any]) -> Loop:
    return Loop(**{**stored, "returns": tuple(stored["returns"]), "on_error": OnItemError(stored["on_error"])})
