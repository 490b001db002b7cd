"""What a hop from node to node costs, against a hop of a bare Celery chain: same broker, same pool, same settings."""

import itertools
import statistics
import time
import uuid
from dataclasses import dataclass
from typing import Any

from redis import Redis
from sqlalchemy import select

from bench import bare
from bench.stage import Stage
from pipelit.engine import broadcast
from pipelit.engine.keys import RECORDED
from pipelit.engine.slices import Placement
from pipelit.extensions import db
from pipelit.models import Workflow, WorkflowExecution
from pipelit.nodes import registry
from pipelit.nodes.base import TriggerEvent
from pipelit.services import executions, workflows
from pipelit.services.drafts import EdgeDraft, GraphDraft, NodeDraft

MANUAL = TriggerEvent("manual", {"payload": {}, "text": "x"})
NODES = 40
ROUNDS = 11
AT_ONCE = 50
BURSTS = 4


@dataclass(frozen=True)
class Figures:
    """Milliseconds per hop of one chain, and steps per second of many, by way of sending."""

    hop_ms: dict[str, float]
    steps_per_second: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        ratios = {
            "hop_ratio": self.hop_ratio(Placement.CHAINED),
            "throughput_ratio": self.throughput_ratio(Placement.CHAINED),
            "local_hop_ratio": self.hop_ratio(Placement.LOCAL),
            "local_throughput_ratio": self.throughput_ratio(Placement.LOCAL),
        }
        return {"hop_ms": self.hop_ms, "steps_per_second": self.steps_per_second, **ratios}

    def hop_ratio(self, placement: Placement) -> float:
        """What a hop costs in hops of bare Celery."""
        return self.hop_ms[placement] / self.hop_ms["celery"]

    def throughput_ratio(self, placement: Placement) -> float:
        """How many steps are run in the time of one task of bare Celery."""
        return self.steps_per_second[placement] / self.steps_per_second["celery"]


def measure(stage: Stage) -> Figures:
    """Run all kinds of chains in turn, so that a machine that slows down slows both."""
    with (
        stage.process("pipelit", "worker", "steps"),
        stage.process("pipelit", "worker", "system"),
        stage.process("bench.bare"),
    ):
        bare.configure_from(stage.settings)
        ways: dict[str, _Bare | _Ours] = {"celery": _Bare(stage)}
        ways |= {placement: _Ours(stage, placement) for placement in Placement}
        for way in ways.values():
            way.many(2)
        single: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                single[name].append(way.one() * 1000 / NODES)
        many: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(BURSTS):
            for name, way in ways.items():
                many[name].append(AT_ONCE * NODES / way.many(AT_ONCE))
    return Figures(_medians(single), _medians(many))


def _medians(samples: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in samples.items()}


class _Bare:
    """Chains of a task that sends the next."""

    def __init__(self, stage: Stage) -> None:
        self.redis: Any = Redis.from_url(stage.settings.redis_url, socket_timeout=None)

    def one(self) -> float:
        """Seconds that a chain takes on its own."""
        return self.many(1)

    def many(self, chains: int) -> float:
        """Seconds until that many chains have ended that were started at once."""
        began = time.perf_counter()
        for _ in range(chains):
            name = uuid.uuid4().hex
            bare.hop.apply_async([name, NODES], task_id=f"{name}-{NODES}")
        for _ in range(chains):
            if self.redis.blpop(bare.DONE, 60) is None:
                raise TimeoutError("a bare chain did not end")
        return time.perf_counter() - began


class _Ours:
    """Chains of template nodes, each reading the output of the one before."""

    def __init__(self, stage: Stage, placement: Placement) -> None:
        self.app = stage.app
        self.redis: Any = Redis.from_url(stage.settings.redis_url, decode_responses=True, socket_timeout=None)
        self.workflow = chain_workflow(NODES, placement)

    def one(self) -> float:
        """Seconds from the start of a chain to its end, as its own row has it."""
        self.many(1)
        db.session.rollback()
        newest = select(WorkflowExecution).order_by(WorkflowExecution.created_at.desc()).limit(1)
        return (db.session.scalars(newest).one().duration_ms or 0) / 1000

    def many(self, chains: int) -> float:
        """Seconds until the final rows of that many chains are in SQL."""
        listener = self.redis.pubsub(ignore_subscribe_messages=True)
        # Not for the events of every step: to listen to them would take the processor from those who run the steps.
        listener.psubscribe(f"{broadcast.PREFIX}{RECORDED}*")
        listener.get_message(timeout=5)
        began = time.perf_counter()
        for _ in range(chains):
            # The trigger's config is at hand, as it is for webhooks.
            executions.begin(self.workflow, "start", MANUAL, config=registry.get("trigger_manual").configure({}))
        for _ in range(chains):
            if listener.get_message(timeout=60) is None:
                raise TimeoutError("a chain did not end")
        took = time.perf_counter() - began
        listener.close()
        return took


def chain_workflow(nodes: int, placement: Placement = Placement.CHAINED) -> Workflow:
    """A manual trigger and `nodes` template nodes in a row."""
    names = ["start", *(f"n{index}" for index in range(1, nodes + 1))]
    drafts = [NodeDraft("trigger_manual", "start")]
    for before, name in itertools.pairwise(names):
        source = "trigger.text" if before == "start" else f"{before}.output"
        drafts.append(NodeDraft("template", name, config={"template": f"{{{{ {source} }}}}."}))
    edges = [EdgeDraft(source, target) for source, target in itertools.pairwise(names)]
    return workflows.import_(GraphDraft(drafts, edges, {"name": f"Chain of {nodes}", "placement": placement}), by=None)
