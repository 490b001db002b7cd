"""Whether this installation can do its work, and the figures that say how much of it there is."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError

from celeryconfig import ALL, LANES
from pipelit.engine import keys
from pipelit.extensions import db, redis
from pipelit.models import WorkflowExecution
from pipelit.models.execution import LIVE

SEEN_WITHIN_MS = 30_000


@dataclass(frozen=True, slots=True)
class Sign:
    """That a worker was there at a time, and the queues it served."""

    at_ms: int
    queues: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.at_ms} {','.join(self.queues)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str()` wrote."""
        at_ms, _, queues = text.partition(" ")
        return cls(int(at_ms), tuple(queues.split(",")))


@dataclass(frozen=True, slots=True)
class Figures:
    """Executions that have not ended, by status; messages waiting, by queue; workers seen lately."""

    executions: dict[str, int]
    waiting: dict[str, int]
    workers: int


def missing(at_ms: int) -> dict[str, str]:
    """What is needed and not there, with the reason; empty when this installation is ready."""
    return dict(_failures(at_ms))


def figures(at_ms: int) -> Figures:
    """The figures of now."""
    by_status = select(WorkflowExecution.status, func.count()).group_by(WorkflowExecution.status)
    counted = dict(db.session.execute(by_status.where(WorkflowExecution.status.in_(LIVE))).all())
    with redis().pipeline(transaction=False) as pipeline:
        for queue in ALL.queues:
            pipeline.llen(queue)
        lengths = pipeline.execute()
    return Figures(
        executions={status: counted.get(status, 0) for status in LIVE},
        waiting=dict(zip(ALL.queues, lengths, strict=True)),
        workers=len(_signs(redis(), at_ms)),
    )


def _signs(client: Redis, at_ms: int) -> list[Sign]:
    """The signs of life that workers gave lately."""
    found: Any = client.hgetall(keys.WORKERS)
    signs = [Sign.parse(text) for text in found.values()]
    return [sign for sign in signs if sign.at_ms > at_ms - SEEN_WITHIN_MS]


def _failures(at_ms: int) -> Iterator[tuple[str, str]]:
    try:
        db.session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        yield "database", "The database does not answer."
    try:
        redis().ping()
        served = {queue for sign in _signs(redis(), at_ms) for queue in sign.queues}
        for lane in LANES:
            if not served.issuperset(lane.queues):
                yield f"worker-{lane.name}", f"No worker of the lane '{lane.name}' has been seen in the last 30 s."
    except RedisError:
        yield "broker", "The broker does not answer."
        for lane in LANES:
            yield f"worker-{lane.name}", f"Whether a worker of the lane '{lane.name}' runs only the broker knows."
