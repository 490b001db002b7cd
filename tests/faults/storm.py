"""One run of the suite: workflows, a calm run of each, then executions under faults, and the verdict."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from tests.faults import evidence, oracle, recovery, workflows
from tests.faults.counter import Counter, counting
from tests.faults.injectors import INJECTORS, Hit
from tests.faults.oracle import Expected, Verdict
from tests.faults.product import Installation, installation
from tests.faults.recovery import Times
from tests.faults.schedule import Planned, plan
from tests.faults.tickets import Fate, Ticket, Wish
from tests.faults.visitors import Approver, fire, meddle
from tests.faults.workflows import CHOICES, Drawing

CALLERS = 6
MEDDLERS = 12
CANCELLED, RETRIED = (0.0, 0.15), (0.08, 0.25)
"""Which part of all executions is cancelled, and which retried; what is in both is cancelled first."""
DELAYS = (0.0, 0.5, 2.0, 6.0)
"""Seconds until an execution is cancelled."""
PREPARATION = 30.0
"""Seconds in which a fault has to find what it is to hit; afterwards it is passed over."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; `patience` is how many seconds the last execution may take after the last fault."""

    executions: int
    faults: int
    workflows: int
    depth: int = 2
    lease_seconds: float = 6.0
    visibility_timeout: int = 30
    patience: float = 300.0
    insistence: float = 180.0
    kinds: Sequence[str] = tuple(INJECTORS)
    pauses: Sequence[float] = (0.0, 1.0, 3.0, 8.0)


@dataclass(slots=True)
class Result:
    """What happened, and what was found."""

    seed: int
    database: str
    executions: int = 0
    calm_executions: int = 0
    unanswered: int = 0
    approvals: int = 0
    cancelled: int = 0
    retried: int = 0
    stopped: int = 0
    seconds: float = 0.0
    faults: list[tuple[str, Hit]] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    times: Mapping[str, Times] = field(default_factory=dict)
    verdict: Verdict = field(default_factory=Verdict)


def run(
    seed: int,
    database: str,
    size: Size,
    folder: Path,
    *,
    keep: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Result:
    """Let the storm pass over a fresh installation. What it looks like when something was found goes to `keep`."""
    result = Result(seed, database)
    lease = {"lease_seconds": size.lease_seconds, "visibility_timeout": size.visibility_timeout}
    with counting(folder / "effects.db") as counter, installation(database, **lease) as there:
        storm = Storm(there, counter, Random(seed), size, result, say)
        storm.draw()
        storm.rehearse()
        storm.rage()
        storm.settle()
        storm.judge()
        if keep is not None and not result.verdict.is_clean:
            evidence.keep(there, keep)
    return result


@dataclass
class Storm:
    """The run as it goes; `calm` is what each workflow gives for each choice when nothing happens."""

    there: Installation
    counter: Counter
    random: Random
    size: Size
    result: Result
    say: Callable[[str], None]
    drawings: list[Drawing] = field(default_factory=list)
    calm: dict[tuple[str, str], Expected] = field(default_factory=dict)
    fired: list[Future[Ticket]] = field(default_factory=list)
    meddled: list[Future[Fate]] = field(default_factory=list)
    began: float = 0.0

    def draw(self) -> None:
        """Make the workflows."""
        children = [workflows.draw_child(self.random, f"called-{number}", self.counter.url) for number in range(2)]
        for number in range(self.size.workflows):
            called = self.random.choice(children).name
            self.drawings.append(
                workflows.draw(self.random, f"faults-{number}", self.counter.url, child=called, depth=self.size.depth)
            )
        for drawing in (*children, *self.drawings):
            made = self.there.product.call("POST", "/api/v1/workflows/", drawing.about)
            assert made.status == 201, made
            put = self.there.product.call("PUT", f"/api/v1/workflows/{drawing.name}/graph/", drawing.graph)
            assert put.status == 200, (drawing, put)

    def rehearse(self) -> None:
        """Run every workflow with every choice in peace."""
        with Approver(self.there), self._callers():
            for drawing in self.drawings:
                for choice in CHOICES:
                    self._fire(drawing, f"calm-{drawing.name}-{choice}", choice)
            tickets = self._tickets()
            self._wait(lambda: oracle.live(self.there) == 0, "the calm run has ended")
        effects = self.counter.effects()
        ran = oracle.runs(self.there)
        for ticket in tickets:
            self.calm[ticket.workflow, ticket.choice] = oracle.calm(ticket.number, ran, effects)
        self.result.calm_executions = len(tickets)
        self.fired.clear()
        for drawing in self.drawings:
            if drawing.limit is not None:
                told = self.there.product.call("PATCH", f"/api/v1/workflows/{drawing.name}/", drawing.limits)
                assert told.status == 200, told
        self.say(f"{len(tickets)} calm executions of {len(self.drawings)} workflows")

    def rage(self) -> None:
        """Fire triggers, and faults between them."""
        planned = plan(self.random, self.size.faults, self.size.kinds, self.size.pauses)
        self.began = time.monotonic()
        with Approver(self.there) as approver, self._callers():
            for number, fault in enumerate(planned, 1):
                self._fire_some(round(self.size.executions * number / len(planned)))
                self._inject(fault)
            tickets = self._tickets()
            for fate in self.meddled:
                fate.result()
            self._wait(lambda: oracle.live(self.there) == 0, "every execution has ended")
            self.result.approvals = approver.answered
        self.result.seconds = time.monotonic() - self.began
        self.result.executions = len(tickets)
        self.result.unanswered = sum(not ticket.is_accepted for ticket in tickets)

    def settle(self) -> None:
        """Wait until nothing is under way any more, as far as that happens at all."""
        self.say(f"{self.result.seconds:6.1f} s  every execution has ended")
        self._wait(lambda: not oracle.left_in_redis(self.there), "nothing is left")
        self.say(f"{time.monotonic() - self.began:6.1f} s  nothing is left")

    def judge(self) -> None:
        """Look at everything."""
        tickets = [future.result() for future in self.fired]
        effects = [effect for effect in self.counter.effects() if not effect.ticket.startswith("calm-")]
        # A server that is killed while its disk is slow loses what it had not handed to the system.
        losses = [hit.at_ms for kind, hit in self.result.faults if kind in ("flush", "kill_redis")]
        fates = {fate.number: fate for fate in (future.result() for future in self.meddled)}
        limits = {drawing.name: drawing.limit for drawing in self.drawings if drawing.limit is not None}
        self._count(fates.values())
        self.result.verdict = oracle.judge(
            self.there, tickets, self.calm, effects, flushes=losses, fates=fates, limits=limits
        )
        self.result.times = recovery.measured(self.result.faults, recovery.beginnings(self.there))

    def _count(self, fates: Iterable[Fate]) -> None:
        for fate in fates:
            self.result.cancelled += fate.cancel == "cancelled"
            self.result.retried += fate.retrial is not None and fate.retrial.ticket.is_accepted
        stopped = "SELECT count(*) AS n FROM workflow_executions WHERE error_code IN ('dropped', 'superseded')"
        self.result.stopped = int(self.there.rows(stopped)[0]["n"])

    @contextmanager
    def _callers(self) -> Iterator[None]:
        with ThreadPoolExecutor(MEDDLERS) as self._meddlers, ThreadPoolExecutor(CALLERS) as self._pool:
            yield

    def _fire_some(self, until: int) -> None:
        while len(self.fired) < until:
            drawing = self.random.choice(self.drawings)
            self._fire(drawing, f"t{len(self.fired)}", self.random.choice(CHOICES))
            self._meddle(drawing, self.fired[-1])

    def _fire(self, drawing: Drawing, number: str, choice: str) -> None:
        patience = self.size.insistence
        self.fired.append(self._pool.submit(fire, self.there, drawing, number, choice, patience=patience))

    def _meddle(self, drawing: Drawing, fired: Future[Ticket]) -> None:
        roll, node = self.random.random(), self.random.choice((None, *drawing.top))
        is_retried = RETRIED[0] <= roll < RETRIED[1]
        delay = self.random.choice(DELAYS)
        wish = Wish(delay if CANCELLED[0] <= roll < CANCELLED[1] else None, is_retried, node if is_retried else None)
        if wish != Wish():
            patience = self.size.patience
            work = partial(meddle, self.there, drawing, wish=wish, patience=patience)
            self.meddled.append(self._meddlers.submit(lambda: work(ticket=fired.result())))

    def _tickets(self) -> list[Ticket]:
        return [future.result() for future in self.fired]

    def _inject(self, fault: Planned) -> None:
        """Do it as soon as there is something to do it to."""
        until = time.monotonic() + PREPARATION
        while time.monotonic() < until:
            hit = self._tried(fault.kind)
            if hit is not None:
                self.result.faults.append((fault.kind, hit))
                self.say(f"{time.monotonic() - self.began:6.1f} s  {fault.kind}  {', '.join(map(str, hit.victims))}")
                time.sleep(fault.pause)
                return
            time.sleep(0.1)
        self.result.passed_over.append(fault.kind)

    def _tried(self, kind: str) -> Hit | None:
        try:
            return INJECTORS[kind](self.there, self.random)
        except (RedisError, SQLAlchemyError):
            return None  # the fault before this one is not over yet

    def _wait(self, is_so: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + self.size.patience
        while time.monotonic() < until:
            try:
                if is_so():
                    return
            except (RedisError, SQLAlchemyError):
                continue
            finally:
                time.sleep(0.3)
        self.say(f"not within {self.size.patience:.0f} s: {what}")
