"""Names of what the engine keeps in Redis, and of the messages it sends."""

from typing import NamedTuple, Self

from pipelit.engine.core.state import StepId, parse_scope, scope_text

JOURNAL = "pipelit:journal"
DEADLINES = "pipelit:deadlines"
"""A sorted set: when (ms) to look at a step or an execution, because nothing was heard of it until then."""
WORKERS = "pipelit:workers"
EPOCH = "pipelit:epoch"
"""A hash: which run of the server was looked through for lost executions last, and how far that has come."""
RECORDED = "recorded:"
"""Channel prefix: the journal says here that an execution's final row is committed."""


EXECUTION_PREFIX = "pipelit:x:"


class ExecutionKeys(NamedTuple):
    """The keys of one live execution. `data` holds outputs, loop items and loop results in fields of their own."""

    meta: str
    steps: str
    data: str
    events: str

    @classmethod
    def of(cls, execution_id: str) -> Self:
        base = f"{EXECUTION_PREFIX}{execution_id}:"
        return cls(f"{base}meta", f"{base}steps", f"{base}data", f"{base}events")


def writer_flag(*, is_urgent: bool) -> str:
    """Set while a writer of the journal is called, so that none is called beside it."""
    return "pipelit:journal:now" if is_urgent else "pipelit:journal:soon"


def plan_key(workflow_id: int, plan_hash: str) -> str:
    return f"pipelit:plan:{workflow_id}:{plan_hash}"


def output_field(step: StepId) -> str:
    return f"output:{step}"


def item_field(loop: StepId, index: int) -> str:
    return f"item:{loop}:{index}"


def result_field(loop: StepId, index: int) -> str:
    return f"result:{loop}:{index}"


def total_field(loop: StepId) -> str:
    return f"total:{loop}"


def bytes_field(loop: StepId) -> str:
    return f"bytes:{loop}"


def report_field(step: StepId) -> str:
    return f"report:{step}"


def edit_field(step: StepId) -> str:
    return f"edit:{step}"


def postponed_field(step: StepId) -> str:
    return f"postponed:{step}"


def due_field(step: StepId) -> str:
    """Where it stands when an attempt is due that was put off, or whose message may have been lost."""
    return f"due:{step}"


def held_field(step: StepId) -> str:
    return f"held:{step}"


def claim_field(step: StepId) -> str:
    return f"claim:{step}"


def running_key(task: "TaskId") -> str:
    """Where a worker says that it still runs an attempt of which the working state knows nothing."""
    return f"pipelit:running:{task}"


def stranger_key(task: "TaskId") -> str:
    """Since when (ms) workers hand an attempt to one another because they do not know its workflow's node types."""
    return f"pipelit:stranger:{task}"


class TaskId(NamedTuple):
    """The deterministic Celery id of one attempt: `{execution_id}:{node_id}:{scope}:a{attempt}`."""

    execution_id: str
    step: StepId
    attempt: int

    def __str__(self) -> str:
        return f"{self.execution_id}:{self.step.node}:{scope_text(self.step.scope)}:a{self.attempt}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str()` wrote. Raises `ValueError` for anything else."""
        head, separator, attempt = text.rpartition(":a")
        execution_id, _, step = head.partition(":")
        node, colon, scope = step.partition(":")
        if not (separator and colon):
            raise ValueError(f"not the id of a step's task: {text!r}")
        return cls(execution_id, StepId.parse(node)._replace(scope=parse_scope(scope)), int(attempt))


def death_key(process: str) -> str:
    """Where the worker says how one of its processes (`machine/keeper.pid`) died."""
    return f"pipelit:death:{process}"
