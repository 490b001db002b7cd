"""What the stories of executions have in common: who starts them, what is asked afterwards, nodes that misbehave."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pipelit.engine.core.state import StepId
from pipelit.engine.keys import TaskId
from pipelit.engine.lease import machine
from pipelit.engine.runtime import engine
from pipelit.engine.store import Meta
from pipelit.engine.worker import Limits, Worker
from pipelit.extensions import db, transaction
from pipelit.models import UserProfile, Workflow, WorkflowExecution
from pipelit.nodes import registry
from pipelit.nodes.base import StepConfig, StepContext, StepNode
from pipelit.nodes.flow.template import Template
from pipelit.nodes.outcome import Outcome
from pipelit.services import executions
from tests.support.hand import Delivery, Hand
from tests.support.workflows import Nodes, build

START = {"start": ("trigger_manual", {})}
PATIENCE = 60.0


def author(name: str = "ada") -> UserProfile:
    """Somebody who may do everything, without a password."""
    with transaction() as session:
        user = UserProfile(username=name, role="admin")
        session.add(user)
    return user


def started(nodes: Nodes, edges: str, *, by: UserProfile | None = None, **start: Any) -> WorkflowExecution:
    """An execution of a new workflow of `start`, a manual trigger, and these nodes."""
    workflow = build({**START, **nodes}, edges)
    return executions.start(workflow.slug, by=by or author(), **start)


def started_with(workflow: Workflow, **start: Any) -> WorkflowExecution:
    """One more execution of a workflow."""
    db.session.rollback()
    return executions.start(workflow.slug, by=author(f"user{workflow.id}"), **start)


def outcome(row: WorkflowExecution) -> WorkflowExecution:
    """The execution with its logs, as SQL has it now."""
    engine().drain_journal()
    db.session.rollback()
    return executions.detail(row.execution_id, by=None)


def attempts(row: WorkflowExecution, node_id: str) -> list[tuple[int, str, str | None]]:
    """What became of each attempt of a node: its number, status and error code."""
    return [(log.attempt, log.status, log.error_code) for log in outcome(row).logs if log.node_id == node_id]


def output_of(row: WorkflowExecution, node_id: str) -> Any:
    """The outputs of a node's attempt that left some."""
    return next(json.loads(log.output) for log in outcome(row).logs if log.node_id == node_id and log.output)


def keys_of(row: WorkflowExecution) -> set[str]:
    """What Redis still holds of an execution."""
    return {key.rpartition(":")[2] for key in engine().redis.keys(f"pipelit:x:{row.execution_id}:*")}


def task_of(delivery: Delivery) -> TaskId:
    """The attempt that a message names."""
    execution_id, step, attempt, *_ = delivery.args
    return TaskId(execution_id, StepId.parse(step), attempt)


def run_with(worker: Worker, delivery: Delivery) -> None:
    """Run a message's step with a worker of one's own."""
    worker.run(task_of(delivery), due_ms=delivery.args[3], meta=Meta(*delivery.args[4]))


def run_all_with(worker: Worker, hand: Hand) -> None:
    """Deliver the steps to a worker of one's own until there are none."""
    while delivery := hand.take():
        run_with(worker, delivery)


def claim_as(owner: str, delivery: Delivery, *, lease_until: int = 0) -> None:
    """Take the lease of an attempt as a process that will never be heard of again; by default it has expired."""
    task = task_of(delivery)
    engine().store.claim(
        task,
        claim=f"{task.attempt} {owner}",
        lease_until=lease_until,
        event="{}",
        channels=("none", "none"),
        fields=(),
    )


def dead_owner(keeper: int = 0) -> str:
    """A process of this machine that is not there any more: its pid lives, its start time is another."""
    return f"{machine()}/{keeper}.1/0"


@dataclass
class Doing(StepNode[StepConfig]):
    """A node type whose steps do what a story says; it stands in for `template`."""

    does: Callable[[StepContext], Outcome]
    type = Template.type
    title = Template.title
    category = Template.category
    icon = Template.icon
    Config = Template.Config

    def run(self, config: Any, context: StepContext) -> Outcome:
        return self.does(context)


def worker_that(does: Callable[[StepContext], Outcome], **limits: Any) -> Worker:
    """A worker for which every template node does something else."""
    ours = engine().worker
    chosen = {"lease": 6.0, "timeout": 300.0, "blob_bytes": 262_144, "output_bytes": 67_108_864, **limits}
    return Worker(ours.coordinator, ours.http, Limits(**chosen), {**registry.load(), "template": Doing(does)})


@dataclass
class Gate:
    """Where a step stops until the story lets it go on."""

    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def wait(self) -> None:
        self.reached.set()
        assert self.opened.wait(PATIENCE), "nobody opened the gate"


@contextmanager
def beside(hand: Hand, *work: Callable[[], None]) -> Iterator[None]:
    """Do the work in threads, each in an application context of its own, and see them end with the block."""
    failures: list[BaseException] = []

    def run(one: Callable[[], None]) -> None:
        try:
            with hand.app.app_context():
                one()
        except BaseException as failure:
            failures.append(failure)
            raise

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert failures == []


def template(text: str = "", **config: Any) -> tuple[str, Mapping[str, Any]]:
    """A template node."""
    return "template", {"template": text, **config}
