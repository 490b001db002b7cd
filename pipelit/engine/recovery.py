"""Looks after what nothing was heard of: expired leases, lost messages, waits that are over, starts not made."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy import and_
from sqlalchemy.exc import DBAPIError

from pipelit import clock
from pipelit.engine import census, endings, timeouts, waiting
from pipelit.engine.coordinator import Coordinator, Start
from pipelit.engine.core.state import ExecutionStatus, StepId, StepStatus
from pipelit.engine.delays import UNCLAIMED_MS
from pipelit.engine.dispatch import due_ms
from pipelit.engine.keys import (
    DEADLINES,
    ExecutionKeys,
    TaskId,
    claim_field,
    due_field,
    postponed_field,
    report_field,
)
from pipelit.engine.lanes import lane_of
from pipelit.engine.lease import is_forsaken
from pipelit.engine.losses import Losses
from pipelit.engine.narrator import Report
from pipelit.engine.rounds import Round
from pipelit.engine.timing import Due
from pipelit.engine.transition import ASK_AGAIN_MS
from pipelit.engine.worker import Worker
from pipelit.errors import PipelitError, StartRefused
from pipelit.extensions import AWAY, db, settings
from pipelit.models.execution import WorkflowExecution

log = structlog.get_logger(__name__)

AT_ONCE = 200
"""Deadlines looked at in one sweep; what is left waits a second for the next."""

SWEPT, STALLED = "pipelit:swept", "pipelit:stalled"
"""When (ms) deadlines were looked at last, and when that went on after a pause longer than half a lease."""

START_GRACE = timedelta(seconds=5)
"""How long an accepted execution may be without a working state before somebody else starts it."""

START_PATIENCE = timedelta(seconds=60)
"""How long it is left to others to start what this process cannot: while workers are renewed, some are older."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """The sweeps of the maintenance tick. All of it is harmless when done twice, or by two processes at once."""

    coordinator: Coordinator
    worker: Worker
    redis: Redis
    losses: Losses

    def sweep_deadlines(self, at_ms: int) -> int:
        """Look at every step and execution whose deadline has passed; returns how many those were."""
        self._notice_stall(at_ms)
        found: Any = self.redis.zrangebyscore(DEADLINES, "-inf", at_ms, start=0, num=AT_ONCE)
        for member in found:
            try:
                self._look_at(str(member), at_ms)
            except (RedisConnectionError, RedisTimeoutError):
                raise  # The broker is away; the next tick looks again.
            except Exception:  # Whatever is wrong with one execution must not keep the others from being looked at.
                log.exception("deadline_unreadable", member=member)
                self.redis.zadd(DEADLINES, {member: at_ms + UNCLAIMED_MS}, xx=True)
        return len(found)

    def take_over(self, at_ms: int) -> int:
        """Report the steps whose worker is known to be gone, without waiting for their leases; how many those were.

        That can be known of this machine only. No claim's deadline is further away than a lease.
        """
        until = at_ms + round(self.worker.limits.lease * 1000)
        found: Any = self.redis.zrangebyscore(DEADLINES, at_ms, until, start=0, num=AT_ONCE)
        tasks = [TaskId.parse(str(member)) for member in found if ":" in member]
        lost = [task for task, claim in zip(tasks, self._claims(tasks), strict=True) if _is_abandoned(task, claim)]
        for task in lost:
            log.warning("worker_gone", task=str(task))
            try:
                self.worker.lost(task)
            except AWAY:
                raise
            except Exception:  # Its lease expires all the same; the others are not to wait for that.
                log.exception("not_taken_over", task=str(task))
                db.session.rollback()
        return len(lost)

    def wake(self, task: TaskId) -> bool:
        """Let a step go on whose time has come. False if it does not wait any more."""
        event, report = waiting.at_deadline(task, self.kept_report(task.execution_id, task.step))
        return self.coordinator.tell(task.execution_id, event, report)

    def kept_report(self, execution_id: str, step: StepId) -> Report:
        """What a waiting step had to report when it was put aside."""
        kept = self.coordinator.store.values(execution_id, [report_field(step)])
        return Report.read(kept[report_field(step)])

    def start_pending(self, *, at_once: int = AT_ONCE) -> int:
        """Start some of what was accepted while the broker was away, in that order; needs an application context."""
        overdue = and_(
            WorkflowExecution.status == "pending",
            WorkflowExecution.created_at < clock.now() - START_GRACE,
            # Whose turn it is in a group is not a matter of time.
            WorkflowExecution.concurrency_group.is_(None),
            WorkflowExecution.retry_wish.is_(None),
        )
        found = Round(self.redis, "pending", WorkflowExecution.created_at).next_ids(overdue, at_once)
        started = sum(self._start(execution_id) for execution_id in found)
        db.session.rollback()
        if started:
            log.warning("started_late", executions=started)
        return started

    def _start(self, execution_id: str) -> bool:
        try:
            row = db.session.get(WorkflowExecution, execution_id)
            return row is not None and self.start_or_fail(row)
        except AWAY:
            raise
        except Exception:  # What is wrong with one is to keep no others from starting; a later sweep tries again.
            log.exception("start_postponed", execution_id=execution_id)
            db.session.rollback()
            return False

    def start_or_fail(self, row: WorkflowExecution) -> bool:
        """Begin an execution from its row, or let it fail if it never can. False if it did not begin now.

        Raises what the servers say, which may pass, and what is wrong with one that was accepted just now: another
        worker may know what to make of it.
        """
        execution_id = row.execution_id
        try:
            return self.start(row)
        except (RedisError, DBAPIError):
            raise
        except Exception as error:
            if clock.now() - row.created_at < START_PATIENCE:
                raise
            log.exception("start_refused", execution_id=execution_id)
            reason = error.detail if isinstance(error, PipelitError) else f"{type(error).__name__}: {error}"
            self.refuse(execution_id, StartRefused(f"The execution could not be started: {reason}"))
            return False

    def refuse(self, execution_id: str, reason: StartRefused) -> None:
        """Close an execution that can never begin; the sweep of follow-ups tells of its failure."""
        group = endings.end_unknown(self.coordinator.store, execution_id, ExecutionStatus.FAILED, reason)
        if group is None:
            return
        endings.tell_end(self.redis, execution_id)
        if group:
            self.coordinator.groups.leave(group, execution_id)

    def start(self, row: WorkflowExecution) -> bool:
        """Begin an execution from its row. False if it has begun already, or has to wait, for others or for news."""
        if row.retry_wish is not None:
            # Somebody copies what it reuses, and begins it then.
            return False
        if self.losses.is_older(row):
            # It may have begun, and have been lost before SQL heard of it.
            return self.losses.restore(row, clock.now_ms())
        if row.retried_from_step is not None:
            return self.losses.rebuilder.begin(row)
        return self.coordinator.start(start_of(row))

    def _look_at(self, member: str, at_ms: int) -> None:
        if ":" not in member:
            self._time_out(member)
            return
        task = TaskId.parse(member)
        known = self._current(task)
        if known is StepStatus.WAITING:
            self._look_at_waiting(task, at_ms)
        elif known is not StepStatus.READY:
            self.redis.zrem(DEADLINES, member)
        elif self._is_claimed(task):
            self._expire(task, at_ms)
        else:
            self._send_again(task, at_ms)

    def _look_at_waiting(self, task: TaskId, at_ms: int) -> None:
        """Let the step go on, or have somebody ask what became of the execution that it waits for."""
        if waiting.kind_of(self.kept_report(task.execution_id, task.step).until) is not waiting.Kind.CHILD:
            self.wake(task)
            return
        message = self.coordinator.tools.dispatcher.attend(task)
        self.redis.lpush(message.key, message.payload)
        self.redis.zadd(DEADLINES, {str(task): at_ms + ASK_AGAIN_MS}, xx=True)

    def _notice_stall(self, at_ms: int) -> None:
        """Remember when sweeps went on after a pause: what held them up may have held up everybody."""
        before: Any = self.redis.set(SWEPT, at_ms, get=True)
        if before is not None and at_ms - int(before) > self.worker.limits.lease * 500:
            log.warning("stall_noticed", seconds=(at_ms - int(before)) / 1000)
            self.redis.set(STALLED, at_ms)

    def _expire(self, task: TaskId, at_ms: int) -> None:
        """Give up on a claim that was not renewed, unless nobody could have been heard for as long as a lease lasts."""
        lease_ms = round(self.worker.limits.lease * 1000)
        up_ms = clock.now_ms() - 1000 * int(self.redis.info("server")["uptime_in_seconds"])
        stalled: Any = self.redis.get(STALLED)
        back_ms = max(up_ms, int(stalled or 0))
        if at_ms < back_ms + lease_ms:
            self.redis.zadd(DEADLINES, {str(task): back_ms + lease_ms}, xx=True)
            return
        due: Any = self.redis.zscore(DEADLINES, str(task))
        if due is None or due > at_ms:
            # What was overdue when the sweep began has been claimed, or renewed, since then.
            return
        log.warning("lease_expired", task=str(task))
        self.worker.lost(task)

    def _time_out(self, execution_id: str) -> None:
        score: Any = self.redis.zscore(DEADLINES, execution_id)
        loaded = self.coordinator.store.load(execution_id)
        seconds = None if loaded is None or score is None else round((score - loaded[1].started_ms) / 1000)
        if not self.coordinator.tell(execution_id, lambda state: timeouts.event(state, seconds), known=loaded):
            self.redis.zrem(DEADLINES, execution_id)

    def _current(self, task: TaskId) -> StepStatus | None:
        """The status of a step, if the attempt is still the one that is waited for."""
        loaded = self.coordinator.store.load(task.execution_id)
        known = loaded[0].state.steps.get(task.step) if loaded else None
        return known.status if known is not None and known.attempt == task.attempt else None

    def _claims(self, tasks: Sequence[TaskId]) -> list[str | None]:
        """Who claimed the steps, as it was written."""
        pipeline = self.redis.pipeline(transaction=False)
        for task in tasks:
            pipeline.hget(ExecutionKeys.of(task.execution_id).meta, claim_field(task.step))
        return list(pipeline.execute())

    def _is_claimed(self, task: TaskId) -> bool:
        claim = self.coordinator.store.owner(task.execution_id, task.step)
        return claim is not None and claim.startswith(f"{task.attempt} ")

    def _send_again(self, task: TaskId, at_ms: int) -> None:
        """Send the message of a step that nobody claimed: one whose delay is over, or whose message seems to be lost.

        While its queue holds a message that has waited for as long, its own may simply still stand there.
        """
        loaded = self.coordinator.store.load(task.execution_id)
        if loaded is None:
            return
        _, meta = loaded
        node = self.coordinator.plans.get(meta.workflow_id, meta.plan_hash).nodes[task.step.node]
        lane = lane_of(node)
        data = ExecutionKeys.of(task.execution_id).data
        was_postponed = bool(self.redis.hdel(data, postponed_field(task.step)))
        due = self._due(task, at_ms, was_postponed=was_postponed)
        self.redis.zadd(DEADLINES, {str(task): at_ms + UNCLAIMED_MS}, xx=True)
        if was_postponed or self._is_drained(lane, at_ms - UNCLAIMED_MS):
            log.info("sent_late" if was_postponed else "sent_again", task=str(task))
            message = self.coordinator.tools.dispatcher.step(task, meta=meta, due_ms=due, lane=lane)
            self.redis.lpush(message.key, message.payload)

    def _due(self, task: TaskId, at_ms: int, *, was_postponed: bool) -> float:
        """Since when the attempt could have begun: its first deadline tells, and what that told is kept."""
        data, field = ExecutionKeys.of(task.execution_id).data, due_field(task.step)
        kept: Any = self.redis.hget(data, field)
        if (due := Due.of(task.attempt, kept)) is not None:
            return due.due_ms
        score: Any = self.redis.zscore(DEADLINES, str(task))
        found = float(at_ms if score is None else score if was_postponed else score - UNCLAIMED_MS)
        self.redis.hset(data, field, Due(task.attempt, found).text())
        return found

    def _is_drained(self, lane: str, since_ms: int) -> bool:
        """Whether a queue has been emptied of all that was sent to it until then: the next message is the oldest."""
        following: Any = self.redis.lindex(lane, -1)
        due = None if following is None else due_ms(str(following))
        return following is None or (due is not None and due > since_ms)


def _is_abandoned(task: TaskId, claim: str | None) -> bool:
    """Whether the attempt was claimed by a process that is gone, and nobody is left to hand its message back."""
    attempt, _, owner = (claim or "").partition(" ")
    return attempt == str(task.attempt) and is_forsaken(owner.split(" ")[0])


def start_of(row: WorkflowExecution) -> Start:
    """What the engine needs to begin an execution, from its row."""
    return Start(
        execution_id=row.execution_id,
        plan_hash=row.plan_hash,
        workflow_id=row.workflow_id,
        slug=row.workflow.slug,
        trigger_output=row.trigger_output,
        max_seconds=row.max_execution_seconds,
        placement=row.placement or settings().placement,
        durability=row.durability,
        place=census.place_of(row),
    )
