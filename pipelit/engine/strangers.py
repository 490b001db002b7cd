"""Steps of workflows with node types that this process does not know. While workers are renewed, another one may."""

from collections.abc import Container
from dataclasses import dataclass

import structlog

from pipelit.engine.coordinator import Coordinator
from pipelit.engine.core.events import Failure, StepFailed
from pipelit.engine.core.graph import Plan
from pipelit.engine.delays import UNCLAIMED_MS
from pipelit.engine.keys import DEADLINES, TaskId, stranger_key
from pipelit.engine.lanes import lane_of
from pipelit.engine.store import Meta
from pipelit.engine.timing import Stopwatch
from pipelit.errors import NodeTypeUnknown

log = structlog.get_logger(__name__)

PATIENCE_MS = 60_000
"""How long workers hand a step to one another before they take it for certain that none of them knows its type."""

AGAIN_SECONDS = 1.0
"""How long a step that was handed back waits for the next worker."""


@dataclass(frozen=True, slots=True)
class Strangers:
    """What a worker does with a step that may be for another one. `types` are those that it knows."""

    coordinator: Coordinator
    types: Container[str]

    def unknown(self, plan: Plan) -> list[str]:
        """The node types of a plan that this process does not know."""
        return sorted({node.type for node in plan.nodes.values() if node.type not in self.types})

    def hand_on(self, plan: Plan, task: TaskId, watch: Stopwatch, meta: Meta) -> bool:
        """Leave the step to another worker, or end it if that was in vain. False if it is to be run here after all.

        When nobody has known its workflow's types for long, a step runs wherever its own is known.
        """
        store, at_ms = self.coordinator.store, round(watch.started_ms)
        key = stranger_key(task)
        store.redis.set(key, at_ms, nx=True, px=10 * PATIENCE_MS)
        waited = at_ms - int(store.redis.get(key) or at_ms)
        node = plan.nodes[task.step.node]
        if waited < PATIENCE_MS:
            log.warning("node_type_unknown", task=str(task), types=self.unknown(plan))
            dispatcher = self.coordinator.tools.dispatcher
            message = dispatcher.step(task, meta=meta, due_ms=watch.due_ms, lane=lane_of(node), delay=AGAIN_SECONDS)
            store.redis.zadd(DEADLINES, {str(task): at_ms + UNCLAIMED_MS}, xx=True)
            store.redis.lpush(message.key, message.payload)
            return True
        if node.type in self.types:
            return False
        error = NodeTypeUnknown(
            f"No worker knows the node type '{node.type}'. Install the package that brings it beside every worker, or "
            "change the node."
        )
        failure = Failure(error.code, error.detail)
        return self.coordinator.tell(
            task.execution_id, StepFailed(task.step, task.attempt, failure), watch.report(None)
        )
