"""Says what went wrong: compares SQL, Redis and the other side with what was accepted, and with a calm run."""

import json
import re
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from pipelit.engine.narrator import END_EVENTS
from pipelit.models.execution import LIVE
from tests.faults import crowds, recovery
from tests.faults.counter import Effect
from tests.faults.product import Installation
from tests.faults.tickets import Fate, Retrial, Ticket, Wish
from tests.faults.workflows import Limit

ENDED = f"status NOT IN ({', '.join(repr(status) for status in LIVE)})"
TICK = "pipelit.maintenance.tick"
ENDS = frozenset(END_EVENTS.values())
NOTHING_DONE: Mapping[str, Fate] = MappingProxyType({})
UNLIMITED: Mapping[str, Limit] = MappingProxyType({})
MARGIN_MS = 1000
"""What lies between a moment that a fault notes and what it does."""


@dataclass(frozen=True, slots=True)
class Run:
    """An execution as SQL has it."""

    execution_id: str
    ticket: str
    status: str
    output: Any
    error: str | None
    began_ms: float
    ended_ms: float

    def was_there(self, at_ms: float) -> bool:
        """Whether it was live at a moment, or just before or after."""
        return self.began_ms - MARGIN_MS <= at_ms <= self.ended_ms + MARGIN_MS


@dataclass(frozen=True, slots=True)
class Attempts:
    """What the logs tell of the steps with effects, by execution and the effect's name."""

    ended: Mapping[tuple[str, str], int]
    succeeded: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Calm:
    """What an execution gives and does when nothing happens to it; `calls` is how often each effect is asked for."""

    output: Any
    effects: frozenset[str]
    calls: Mapping[str, int] = field(default_factory=dict)


Expected = Mapping[str, Calm]
"""The executions that one ticket makes, by what is added to its number: nothing, or `+4` for what its step 4 called."""


@dataclass(slots=True)
class Verdict:
    """What was found, by kind; empty lists are what is hoped for."""

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    crowded: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not any(self.by_kind().values())

    def by_kind(self) -> dict[str, list[str]]:
        return {
            "lost": self.lost,
            "twice": self.twice,
            "stuck": self.stuck,
            "different": self.different,
            "crowded": self.crowded,
            "left over": self.left_over,
        }

    def __str__(self) -> str:
        return "\n".join(f"{kind}: {found}" for kind, many in self.by_kind().items() for found in many[:20])


def runs(there: Installation) -> dict[str, list[Run]]:
    """Every execution, by the ticket that it was started with."""
    # As text, which SQLite and PostgreSQL give alike.
    given_and_made = "CAST(trigger_output AS TEXT) AS given, CAST(final_output AS TEXT) AS made"
    found: dict[str, list[Run]] = defaultdict(list)
    wanted = f"execution_id, status, error_message, created_at, completed_at, {given_and_made}"
    for row in there.rows(f"SELECT {wanted} FROM workflow_executions"):
        given = json.loads(row["given"])
        ticket = (given.get("body") or given.get("payload") or {}).get("ticket", "")
        made = None if row["made"] is None else json.loads(row["made"])
        times = crowds.moment(row["created_at"]), crowds.moment(row["completed_at"])
        run = Run(row["execution_id"], ticket, row["status"], made, row["error_message"], *times)
        found[ticket].append(run)
    return found


def live(there: Installation) -> int:
    """How many executions have not ended."""
    return int(there.rows(f"SELECT count(*) AS n FROM workflow_executions WHERE NOT ({ENDED})")[0]["n"])


def calm(number: str, ran: Mapping[str, list[Run]], effects: Iterable[Effect]) -> Expected:
    """What became of a ticket in a calm run."""
    expected = {}
    for ticket in [ticket for ticket in ran if ticket.partition("+")[0] == number]:
        (only,) = ran[ticket]
        assert only.status == "completed", only
        calls = {effect.name: effect.calls for effect in effects if effect.ticket == ticket}
        expected[ticket.removeprefix(number)] = Calm(only.output, frozenset(calls), calls)
    return expected


def judge(
    there: Installation,
    tickets: Iterable[Ticket],
    expected: Mapping[tuple[str, str], Expected],
    effects: Iterable[Effect],
    *,
    flushes: Sequence[int],
    fates: Mapping[str, Fate] = NOTHING_DONE,
    limits: Mapping[str, Limit] = UNLIMITED,
) -> Verdict:
    """Everything that is not as it has to be.

    `flushes` are the moments (ms since the epoch) at which all that was not in SQL was lost: with each of them, as many
    attempts at each step of the executions that were live may be missing in the logs as a calm run makes. `fates` are
    by the number of the ticket, `limits` by workflow.
    """
    by_ticket: dict[str, list[Effect]] = defaultdict(list)
    for effect in effects:
        by_ticket[effect.ticket].append(effect)
    judging = Judging(Verdict(), runs(there), by_ticket, attempts(there), flushes, limits)
    for ticket in tickets:
        calm = expected[ticket.workflow, ticket.choice]
        fate = fates.get(ticket.number, Fate(ticket.number, Wish()))
        judging.look_at(ticket, calm, fate)
        if fate.retrial is not None:
            judging.look_at_retry(fate.retrial, calm)
    verdict = judging.verdict
    unknown = [number for number in judging.found if not number.startswith("calm-")]
    verdict.different += [f"{number}: not in a calm run" for number in unknown]
    verdict.twice += [*_repeated_steps(there), *_repeated_ends(there)]
    verdict.crowded += crowds.found(there, limits)
    verdict.left_over += [*_left_in_sql(there), *left_in_redis(there)]
    return verdict


@dataclass(frozen=True, slots=True)
class Due:
    """What an execution has to come to: `effects` have to happen, `others` may. If it is cancelled, none has to."""

    calm: Calm
    effects: frozenset[str]
    others: frozenset[str] = frozenset()
    may_be_cancelled: bool = False


@dataclass
class Judging:
    """Looks at one ticket after the other; `found` are the executions that nobody has asked about yet."""

    verdict: Verdict
    found: dict[str, list[Run]]
    effects: Mapping[str, list[Effect]]
    attempts: Attempts
    flushes: Sequence[int]
    limits: Mapping[str, Limit]

    def look_at(self, ticket: Ticket, expected: Expected, fate: Fate) -> None:
        """A ticket's execution, and those that it called."""
        is_stopped = self._may_be_stopped(ticket) or fate.wish.cancelled_after is not None
        is_cancelled = self._is_cancelled(ticket.number)
        if fate.cancel == "cancelled" and not is_cancelled:
            self.verdict.different.append(f"{ticket.workflow} {ticket.number}: said to be cancelled, and is not")
        for suffix, calm in expected.items():
            due = Due(calm, calm.effects, may_be_cancelled=is_stopped)
            is_due = ticket.is_accepted and not (suffix and is_cancelled)
            self._executions(ticket, ticket.number + suffix, due, is_due=is_due)

    def look_at_retry(self, retrial: Retrial, expected: Expected) -> None:
        """A retry, and those that it called: what it reuses must not happen again, and everything else has to."""
        ticket, number = retrial.ticket, retrial.ticket.number
        surely, perhaps = (
            frozenset(name for name in names if name.partition("/")[0] not in retrial.again)
            for names in (retrial.before, retrial.after)
        )
        is_cancelled = self._is_cancelled(number)
        for suffix, calm in expected.items():
            called = f"workflow{suffix[1:]}/0"
            if suffix and called in surely:
                repeated = self.found.pop(number + suffix, [])
                self.verdict.twice += [f"{ticket.workflow} {number}{suffix}: called again" for _ in repeated]
                continue
            due = Due(calm, calm.effects, may_be_cancelled=self._may_be_stopped(ticket))
            if not suffix:
                due = replace(due, effects=calm.effects - perhaps, others=(calm.effects & perhaps) - surely)
            is_due = ticket.is_accepted and not (suffix and (is_cancelled or called in perhaps))
            self._executions(ticket, number + suffix, due, is_due=is_due)

    def _may_be_stopped(self, ticket: Ticket) -> bool:
        """Whether its workflow does not let all of its executions come to their end."""
        limit = self.limits.get(ticket.workflow)
        return limit is not None and limit.overlap != "queue"

    def _is_cancelled(self, number: str) -> bool:
        return any(run.status == "cancelled" for run in self.found.get(number, []))

    def _executions(self, ticket: Ticket, number: str, due: Due, *, is_due: bool) -> None:
        mine = self.found.pop(number, [])
        if is_due and not mine:
            self.verdict.lost.append(f"{ticket.workflow} {number}: accepted, and there is no execution")
        if len(mine) > 1:
            self.verdict.twice.append(f"{ticket.workflow} {number}: {len(mine)} executions")
        if number == ticket.number and ticket.execution_id not in (None, *(run.execution_id for run in mine)):
            self.verdict.lost.append(f"{ticket.workflow} {number}: was answered with {ticket.execution_id}")
        for run in mine:
            self._status(run, ticket, due)
            if run.status in ("completed", "cancelled"):
                self._effects(run, due)

    def _status(self, run: Run, ticket: Ticket, due: Due) -> None:
        name = f"{ticket.workflow} {run.ticket} {run.execution_id}"
        if run.status in LIVE:
            self.verdict.stuck.append(f"{name} is {run.status}")
        elif run.status == "cancelled" and due.may_be_cancelled:
            return
        elif run.status != "completed":
            self.verdict.different.append(f"{name} is {run.status}: {run.error}")
        elif run.output != due.calm.output:
            self.verdict.different.append(f"{name} gave {run.output!r}, and in a calm run {due.calm.output!r}")

    def _effects(self, run: Run, due: Due) -> None:
        """Each effect happened, once, and was not asked for more often than there were attempts at it.

        Under a key it cannot happen twice: another key, or a call too many, is what shows that its step was repeated.
        """
        verdict, effects = self.verdict, self.effects.get(run.ticket, [])
        done = Tally(effect.name for effect in effects)
        losses, is_cancelled = sum(run.was_there(at) for at in self.flushes), run.status == "cancelled"
        for effect in effects:
            name = f"{run.execution_id} {effect.name} {effect.key}"
            if done[effect.name] > 1:
                verdict.twice.append(f"effect {name}: under {done[effect.name]} keys")
            if not effect.key and effect.times > 1:
                verdict.twice.append(f"effect {name}: {effect.times} times")
            if effect.name not in due.effects | due.others:
                verdict.different.append(f"effect {name}: not in a calm run, or of a step that was reused")
            unrecorded = losses * due.calm.calls.get(effect.name, 1) + is_cancelled
            tried = self.attempts.ended.get((run.execution_id, effect.name), 0) + unrecorded
            if effect.key and effect.calls > tried:
                verdict.twice.append(f"effect {name}: {effect.calls} calls in {tried} attempts")
        for name in sorted(due.effects - done.keys()) if run.status == "completed" else ():
            # A step that must not be repeated may have died before its effect, and is then given up: its log says so.
            if not name.startswith("once") or (run.execution_id, name) in self.attempts.succeeded:
                verdict.lost.append(f"effect {run.execution_id} {name}: never happened")


def left_in_redis(there: Installation) -> list[str]:
    """What an installation at rest must not have. Tombstones pass of themselves; the tick always waits somewhere."""
    redis = there.redis
    found = [key for key in redis.scan_iter("pipelit:x:*", count=1000) if redis.ttl(key) == -1]
    left = [f"key {key}" for key in found]
    left += [f"deadline {member}" for member in redis.zrange("pipelit:deadlines", 0, -1)]
    left += [f"{redis.xlen('pipelit:journal')} entries in the journal"] if redis.xlen("pipelit:journal") else []
    left += [f"{redis.llen('default')} messages of steps"] if redis.llen("default") else []
    held = [json.loads(text)[0]["headers"] for text in redis.hvals("unacked")]
    left += [f"unacknowledged {head['task']} {head['id']}" for head in held if head["task"] != TICK]
    return left


def attempts(there: Installation, execution_id: str = "") -> Attempts:
    """What the logs tell of all executions, or of one."""
    query = (
        "SELECT execution_id, node_id, scope, count(*) AS n, "
        "sum(CASE WHEN status = 'success' THEN 1 ELSE 0 END) AS done FROM execution_logs "
        "WHERE :wanted = '' OR execution_id = :wanted GROUP BY 1, 2, 3"
    )
    rows = there.rows(query, wanted=execution_id)
    found = {(row["execution_id"], _effect(row["node_id"], row["scope"])): row for row in rows}
    ended = {step: int(row["n"]) for step, row in found.items()}
    return Attempts(ended, frozenset(step for step, row in found.items() if row["done"]))


def _effect(node_id: str, scope: str) -> str:
    """The name of a step's effect: `effect7/0-2` for `effect7` in `outer:0/inner:2`."""
    return f"{node_id}/{'-'.join(re.findall(r':([0-9]+)', scope)) or '0'}"


def _repeated_steps(there: Installation) -> Iterator[str]:
    """Steps that succeeded more than once.

    Where results are durable, each attempt writes its own before it knows whether it is still the current one, or
    writes that of an earlier one as its own: there they have to be the same.
    """
    query = (
        "SELECT l.execution_id, node_id, scope, count(*) AS n FROM execution_logs l "
        "JOIN workflow_executions e ON e.execution_id = l.execution_id "
        "WHERE l.status = 'success' GROUP BY 1, 2, 3, e.durability "
        "HAVING count(*) > 1 AND (e.durability <> 'sync' OR count(DISTINCT l.output) > 1)"
    )
    for row in there.rows(query):
        yield f"step {row['execution_id']} {row['node_id']}@{row['scope']} succeeded {row['n']} times"


def _repeated_ends(there: Installation) -> Iterator[str]:
    """Executions that said more than once that they had ended."""
    for execution_id, events in recovery.kept_events(there).items():
        ends = [event["type"] for event in events if event["type"] in ENDS]
        if len(ends) > 1:
            yield f"execution {execution_id} told {ends}"


def _left_in_sql(there: Installation) -> Iterator[str]:
    for row in there.rows(f"SELECT execution_id, status FROM workflow_executions WHERE NOT ({ENDED})"):
        yield f"row {row['execution_id']} says {row['status']}"
    for row in there.rows("SELECT execution_id, step FROM pending_tasks"):
        yield f"question {row['execution_id']} {row['step']}"
