"""Whether this installation can do its work, and the figures that say how much of it there is."""

from collections.abc import Iterator
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError

from pipelit.engine import keys
from pipelit.extensions import db, redis
from pipelit.models import WorkflowExecution
from pipelit.models.execution import LIVE

QUEUES = ("default", "llm", "triggers", "schedules", "maintenance")
SEEN_WITHIN_MS = 30_000


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
        for queue in QUEUES:
            pipeline.llen(queue)
        lengths = pipeline.execute()
    return Figures(
        executions={status: counted.get(status, 0) for status in LIVE},
        waiting=dict(zip(QUEUES, lengths, strict=True)),
        workers=workers_seen(redis(), at_ms),
    )


def workers_seen(client: Redis, at_ms: int) -> int:
    """How many workers gave a sign of life lately."""
    signs = client.hgetall(keys.WORKERS)
    return sum(int(seen) > at_ms - SEEN_WITHIN_MS for seen in signs.values())


def _failures(at_ms: int) -> Iterator[tuple[str, str]]:
    try:
        db.session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        yield "database", "The database does not answer."
    try:
        redis().ping()
        if not workers_seen(redis(), at_ms):
            yield "worker", "No worker has been seen in the last 30 s."
    except RedisError:
        yield "broker", "The broker does not answer."
        yield "worker", "Whether a worker runs cannot be known without the broker."
