"""What a hop from node to node costs, against a hop of a bare Celery chain: same broker, same pool, same settings."""

import itertools
import statistics
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis import Redis

from bench import bare
from bench.stage import Stage
from pipelit.engine import broadcast
from pipelit.models import Workflow
from pipelit.nodes.base import TriggerEvent
from pipelit.services import executions, workflows
from pipelit.services.drafts import EdgeDraft, GraphDraft, NodeDraft

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
        ratios = {"hop_ratio": self.hop_ratio, "throughput_ratio": self.throughput_ratio}
        return {"hop_ms": self.hop_ms, "steps_per_second": self.steps_per_second, **ratios}

    @property
    def hop_ratio(self) -> float:
        return self.hop_ms["pipelit"] / self.hop_ms["celery"]

    @property
    def throughput_ratio(self) -> float:
        return self.steps_per_second["pipelit"] / self.steps_per_second["celery"]


def measure(stage: Stage) -> Figures:
    """Run both kinds of chains in turn, so that a machine that slows down slows both."""
    with (
        stage.process("pipelit", "worker", "steps"),
        stage.process("pipelit", "worker", "system"),
        stage.process("bench.bare"),
    ):
        bare.configure_from(stage.settings)
        ways: dict[str, Callable[[int], float]] = {"celery": _Bare(stage).seconds, "pipelit": _Ours(stage).seconds}
        for run in ways.values():
            run(2)
        single = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, run in ways.items():
                single[name].append(run(1) * 1000 / NODES)
        many = {name: [] for name in ways}
        for _ in range(BURSTS):
            for name, run in ways.items():
                many[name].append(AT_ONCE * NODES / run(AT_ONCE))
    return Figures(_medians(single), _medians(many))


def _medians(samples: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in samples.items()}


class _Bare:
    """Chains of a task that sends the next."""

    def __init__(self, stage: Stage) -> None:
        self.redis: Any = Redis.from_url(stage.settings.redis_url, socket_timeout=None)

    def seconds(self, chains: int) -> float:
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

    def __init__(self, stage: Stage) -> None:
        self.app = stage.app
        self.redis: Any = Redis.from_url(stage.settings.redis_url, decode_responses=True, socket_timeout=None)
        self.workflow = chain_workflow(NODES)

    def seconds(self, chains: int) -> float:
        listener = self.redis.pubsub()
        listener.subscribe(broadcast.PREFIX + broadcast.workflow_channel(self.workflow.slug))
        listener.get_message(timeout=5)
        began = time.perf_counter()
        for _ in range(chains):
            executions.begin(self.workflow, "start", TriggerEvent("manual", {"payload": {}, "text": "x"}))
        ended = 0
        while ended < chains:
            message = listener.get_message(ignore_subscribe_messages=True, timeout=60)
            if message is None:
                raise TimeoutError("a chain did not end")
            ended += '"type":"execution_completed"' in message["data"]
        took = time.perf_counter() - began
        listener.close()
        return took


def chain_workflow(nodes: int) -> Workflow:
    """A manual trigger and `nodes` template nodes in a row."""
    names = ["start", *(f"n{index}" for index in range(1, nodes + 1))]
    drafts = [NodeDraft("trigger_manual", "start")]
    for before, name in itertools.pairwise(names):
        source = "trigger.text" if before == "start" else f"{before}.output"
        drafts.append(NodeDraft("template", name, config={"template": f"{{{{ {source} }}}}."}))
    edges = [EdgeDraft(source, target) for source, target in itertools.pairwise(names)]
    return workflows.import_(GraphDraft(drafts, edges, {"name": f"Chain of {nodes}"}), by=None)
