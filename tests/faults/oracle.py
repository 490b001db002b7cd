"""Says what went wrong: compares SQL, Redis and the other side with what was accepted, and with a calm run."""

import json
import math
import re
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipelit.models.execution import LIVE
from tests.faults.counter import Effect
from tests.faults.product import Installation

ENDED = f"status NOT IN ({', '.join(repr(status) for status in LIVE)})"
TICK = "pipelit.maintenance.tick"
MARGIN_MS = 1000
"""What lies between a moment that a fault notes and what it does."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """One trigger that the suite fired; `is_accepted` once the product has said so."""

    number: str
    workflow: str
    choice: str
    is_accepted: bool


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
    """What an execution gives and does when nothing happens to it."""

    output: Any
    effects: frozenset[str]


Expected = Mapping[str, Calm]
"""The executions that one ticket makes, by what is added to its number: nothing, or `+4` for what its step 4 called."""


@dataclass(slots=True)
class Verdict:
    """What was found, by kind; empty lists are what is hoped for."""

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
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
        times = _ms(row["created_at"], math.inf), _ms(row["completed_at"], math.inf)
        run = Run(row["execution_id"], ticket, row["status"], made, row["error_message"], *times)
        found[ticket].append(run)
    return found


def _ms(moment: Any, otherwise: float) -> float:
    """A time as SQL gives it: text in SQLite, without its zone."""
    if moment is None:
        return otherwise
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return float((at.replace(tzinfo=UTC) if at.tzinfo is None else at).timestamp() * 1000)


def live(there: Installation) -> int:
    """How many executions have not ended."""
    return int(there.rows(f"SELECT count(*) AS n FROM workflow_executions WHERE NOT ({ENDED})")[0]["n"])


def calm(number: str, ran: Mapping[str, list[Run]], effects: Iterable[Effect]) -> Expected:
    """What became of a ticket in a calm run."""
    expected = {}
    for ticket in [ticket for ticket in ran if ticket.partition("+")[0] == number]:
        (only,) = ran[ticket]
        assert only.status == "completed", only
        done = frozenset(effect.name for effect in effects if effect.ticket == ticket)
        expected[ticket.removeprefix(number)] = Calm(only.output, done)
    return expected


def judge(
    there: Installation,
    tickets: Iterable[Ticket],
    expected: Mapping[tuple[str, str], Expected],
    effects: Iterable[Effect],
    *,
    flushes: Sequence[int],
) -> Verdict:
    """Everything that is not as it has to be.

    `flushes` are the moments (ms since the epoch) at which all that was not in SQL was lost: with each of them, one
    attempt at each step of the executions that were live may be missing in the logs.
    """
    verdict = Verdict()
    found = runs(there)
    by_ticket: dict[str, list[Effect]] = defaultdict(list)
    for effect in effects:
        by_ticket[effect.ticket].append(effect)
    attempts = _attempts(there)
    for ticket in tickets:
        for suffix, calm in expected[ticket.workflow, ticket.choice].items():
            number = ticket.number + suffix
            mine = found.pop(number, [])
            if ticket.is_accepted and not mine:
                verdict.lost.append(f"{ticket.workflow} {number}: accepted, and there is no execution")
            if len(mine) > 1:
                verdict.twice.append(f"{ticket.workflow} {number}: {len(mine)} executions")
            for run in mine:
                _judge_run(verdict, run, ticket, calm)
                if run.status == "completed":
                    unrecorded = sum(run.was_there(at) for at in flushes)
                    _judge_effects(verdict, run, calm.effects, by_ticket[number], attempts, unrecorded)
    unknown = [number for number in found if not number.startswith("calm-")]
    verdict.different += [f"{number}: not in a calm run" for number in unknown]
    verdict.twice += _repeated_steps(there)
    verdict.left_over += [*_left_in_sql(there), *left_in_redis(there)]
    return verdict


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


def _judge_run(verdict: Verdict, run: Run, ticket: Ticket, calm: Calm) -> None:
    name = f"{ticket.workflow} {run.ticket} {run.execution_id}"
    if run.status in LIVE:
        verdict.stuck.append(f"{name} is {run.status}")
    elif run.status != "completed":
        verdict.different.append(f"{name} is {run.status}: {run.error}")
    elif run.output != calm.output:
        verdict.different.append(f"{name} gave {run.output!r}, and in a calm run {calm.output!r}")


def _judge_effects(
    verdict: Verdict,
    run: Run,
    expected: frozenset[str],
    effects: list[Effect],
    attempts: Attempts,
    unrecorded: int,
) -> None:
    """Each effect of the calm run happened, once, and was not asked for more often than there were attempts at it.

    Under a key it cannot happen twice: another key, or a call too many, is what shows that its step was repeated.
    """
    done = Tally(effect.name for effect in effects)
    for effect in effects:
        name = f"{run.execution_id} {effect.name} {effect.key}"
        if done[effect.name] > 1:
            verdict.twice.append(f"effect {name}: under {done[effect.name]} keys")
        if not effect.key and effect.times > 1:
            verdict.twice.append(f"effect {name}: {effect.times} times")
        if effect.name not in expected:
            verdict.different.append(f"effect {name}: not in a calm run")
        tried = attempts.ended.get((run.execution_id, effect.name), 0) + unrecorded
        if effect.key and effect.calls > tried:
            verdict.twice.append(f"effect {name}: {effect.calls} calls in {tried} attempts")
    for name in sorted(expected - done.keys()):
        # A step that must not be repeated may have died before its effect, and is then given up: its log says so.
        if not name.startswith("once") or (run.execution_id, name) in attempts.succeeded:
            verdict.lost.append(f"effect {run.execution_id} {name}: never happened")


def _attempts(there: Installation) -> Attempts:
    query = (
        "SELECT execution_id, node_id, scope, count(*) AS n, "
        "sum(CASE WHEN status = 'success' THEN 1 ELSE 0 END) AS done FROM execution_logs GROUP BY 1, 2, 3"
    )
    found = {(row["execution_id"], _effect(row["node_id"], row["scope"])): row for row in there.rows(query)}
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
        "JOIN workflow_executions e ON e.execution_id = l.execution_id JOIN workflows w ON w.id = e.workflow_id "
        "WHERE l.status = 'success' GROUP BY 1, 2, 3, w.durability "
        "HAVING count(*) > 1 AND (w.durability <> 'sync' OR count(DISTINCT l.output) > 1)"
    )
    for row in there.rows(query):
        yield f"step {row['execution_id']} {row['node_id']}@{row['scope']} succeeded {row['n']} times"


def _left_in_sql(there: Installation) -> Iterator[str]:
    for row in there.rows(f"SELECT execution_id, status FROM workflow_executions WHERE NOT ({ENDED})"):
        yield f"row {row['execution_id']} says {row['status']}"
    for row in there.rows("SELECT execution_id, step FROM pending_tasks"):
        yield f"question {row['execution_id']} {row['step']}"
