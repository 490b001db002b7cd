"""Says what went wrong: compares SQL, Redis and the other side with what was accepted, and with a calm run."""

import json
import re
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelit.models.execution import LIVE
from tests.faults.counter import Effect
from tests.faults.product import Installation

ENDED = f"status NOT IN ({', '.join(repr(status) for status in LIVE)})"
TICK = "pipelit.maintenance.tick"


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
    for row in there.rows(f"SELECT execution_id, status, error_message, {given_and_made} FROM workflow_executions"):
        given = json.loads(row["given"])
        ticket = (given.get("body") or given.get("payload") or {}).get("ticket", "")
        made = None if row["made"] is None else json.loads(row["made"])
        run = Run(row["execution_id"], ticket, row["status"], made, row["error_message"])
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
        done = frozenset(effect.name for effect in effects if effect.ticket == ticket)
        expected[ticket.removeprefix(number)] = Calm(only.output, done)
    return expected


def judge(
    there: Installation,
    tickets: Iterable[Ticket],
    expected: Mapping[tuple[str, str], Expected],
    effects: Iterable[Effect],
    *,
    unrecorded: int,
) -> Verdict:
    """Everything that is not as it has to be; `unrecorded` attempts at a step may be missing in its log."""
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
    attempts: Mapping[tuple[str, str], int],
    unrecorded: int,
) -> None:
    """Each effect of the calm run happened, once, and was not asked for more often than there were attempts at it."""
    done = Tally(effect.name for effect in effects)
    for effect in effects:
        name = f"{run.execution_id} {effect.name} {effect.key}"
        if effect.times > 1 or done[effect.name] > 1:
            verdict.twice.append(f"effect {name}: {effect.times} times, under {done[effect.name]} keys")
        if effect.name not in expected:
            verdict.different.append(f"effect {name}: not in a calm run")
        tried = attempts.get((run.execution_id, effect.name), 0) + unrecorded
        if effect.key and effect.calls > tried:
            verdict.twice.append(f"effect {name}: {effect.calls} calls in {tried} attempts")
    # A step that must not be repeated may have died before its effect, and is then given up.
    missing = {name for name in expected - done.keys() if not name.startswith("once")}
    verdict.lost += [f"effect {run.execution_id} {name}: never happened" for name in sorted(missing)]


def _attempts(there: Installation) -> dict[tuple[str, str], int]:
    """How many attempts at each effect are on record, by execution and the effect's name."""
    query = "SELECT execution_id, node_id, scope, count(*) AS n FROM execution_logs GROUP BY 1, 2, 3"
    return {(row["execution_id"], _effect(row["node_id"], row["scope"])): row["n"] for row in there.rows(query)}


def _effect(node_id: str, scope: str) -> str:
    """The name of a step's effect: `effect7/0-2` for `effect7` in `outer:0/inner:2`."""
    return f"{node_id}/{'-'.join(re.findall(r':([0-9]+)', scope)) or '0'}"


def _repeated_steps(there: Installation) -> Iterator[str]:
    """Steps that succeeded more than once."""
    query = (
        "SELECT execution_id, node_id, scope, count(*) AS n FROM execution_logs "
        "WHERE status = 'success' GROUP BY 1, 2, 3 HAVING count(*) > 1"
    )
    for row in there.rows(query):
        yield f"step {row['execution_id']} {row['node_id']}@{row['scope']} succeeded {row['n']} times"


def _left_in_sql(there: Installation) -> Iterator[str]:
    for row in there.rows(f"SELECT execution_id, status FROM workflow_executions WHERE NOT ({ENDED})"):
        yield f"row {row['execution_id']} says {row['status']}"
    for row in there.rows("SELECT execution_id, step FROM pending_tasks"):
        yield f"question {row['execution_id']} {row['step']}"
