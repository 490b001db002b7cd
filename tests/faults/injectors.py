"""One function for each fault: it does it at once and says what it hit; None if there is nothing to hit yet."""

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from redis import Redis

from pipelit.engine.core.state import StepId
from pipelit.engine.journal import LOCK
from pipelit.engine.keys import TaskId
from tests.faults.product import DATABASE, Installation, children, command_postgresql

STEPS = "default"
MOVE = "if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 1 then redis.call('LPUSH', KEYS[1], ARGV[1]) end"
MOST_ATTEMPTS = 2
"""A step whose worker dies a third time is given up, and rightly so: the suite does not go so far with one step."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What a fault did: when (ms since the epoch), and which attempts lost their process or message by it."""

    at_ms: int
    victims: tuple[TaskId, ...] = ()
    lasted_ms: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """An attempt that a process is at."""

    task: TaskId
    pid: int


Injector = Callable[[Installation, Random], Hit | None]


def kill_child(there: Installation, random: Random) -> Hit | None:
    """`kill -9` of a pool's process in the middle of a step."""
    claims = _running(there)
    if not claims:
        return None
    chosen = random.choice(claims)
    return _kill(chosen.pid, tuple(claim.task for claim in claims if claim.pid == chosen.pid))


def kill_worker(there: Installation, _random: Random) -> Hit | None:
    """`kill -9` of the worker that runs the steps and of its whole pool, in the middle of a step."""
    claims, worker = _running(there), there.worker("steps")
    if not claims or worker is None:
        return None
    return _kill_group(worker, tuple(claim.task for claim in claims))


def kill_parent(there: Installation, _random: Random) -> Hit | None:
    """`kill -9` of the worker's first process alone; its pool is left without a parent."""
    worker = there.worker("steps")
    return None if worker is None or not children(worker) else _kill(worker)


def kill_web(there: Installation, random: Random) -> Hit | None:
    """`kill -9` of the web server, or of one of its processes."""
    server = there.web()
    if server is None or not children(server):
        return None
    return _kill_group(server) if random.random() < 0.5 else _kill(random.choice(children(server)))


def kill_web_processes(there: Installation) -> Hit | None:
    """`kill -9` of every process of the web server that answers requests."""
    server = there.web()
    hits = [_kill(process) for process in children(server)] if server is not None else []
    return next((hit for hit in hits if hit is not None), None)


def kill_redis(there: Installation, random: Random) -> Hit | None:
    """`kill -9` of the Redis-compatible server, in the middle of steps; it comes back with its log."""
    if not _running(there):
        return None
    if there.server is not None:
        at = _now()
        there.server.kill()
        time.sleep(random.uniform(0, 2))
        there.server.start()
        return Hit(at)
    server = there.embedded_server()
    return None if server is None else _kill(server)


def kill_journal_writer(there: Installation, _random: Random) -> Hit | None:
    """`kill -9` of the worker that writes the journal, while it writes it."""
    worker = there.worker("system")
    if worker is None or not _soon(lambda: there.redis.exists(LOCK) == 1):
        return None
    return _kill_group(worker)


def pause_child(there: Installation, random: Random) -> Hit | None:
    """SIGSTOP of a pool's process in the middle of a step; then it goes on as if nothing was."""
    claims = _running(there)
    return _pause(random.choice(claims).pid, random.uniform(1, 4)) if claims else None


def pause_worker(there: Installation, random: Random) -> Hit | None:
    """SIGSTOP of the worker and its pool in the middle of steps, for longer than their leases."""
    claims, worker = _running(there), there.worker("steps")
    if not claims or worker is None:
        return None
    pids = [worker, *children(worker)]
    victims = tuple(claim.task for claim in claims)
    hits = [_pause(pid, there.lease_seconds + random.uniform(1, 4), victims) for pid in pids]
    return hits[0]


def pause_system(there: Installation, random: Random) -> Hit | None:
    """SIGSTOP of the worker that looks after everything."""
    worker = there.worker("system")
    return None if worker is None else _pause(worker, there.lease_seconds + random.uniform(1, 4))


def duplicate_delivery(there: Installation, random: Random) -> Hit | None:
    """A message that a worker has in its hands, or that waits, is delivered once more."""
    held = [json.loads(text)[0] for text in there.redis.hvals("unacked")]
    copies = [json.dumps(message) for message in held if _is_step(message)] or there.redis.lrange(STEPS, 0, -1)
    if not copies:
        return None
    for _ in range(random.randint(1, 3)):
        there.redis.lpush(STEPS, random.choice(copies))
    return Hit(_now())


def drop_delivery(there: Installation, _random: Random) -> Hit | None:
    """The next message of a step is taken off its queue by nobody."""
    with _nobody_listening(there):
        if not _soon(lambda: there.redis.llen(STEPS) >= 1):
            return None
        taken = there.redis.rpop(STEPS)
    return Hit(_now(), (TaskId.parse(json.loads(taken)["headers"]["id"]),)) if taken else None


def reorder_deliveries(there: Installation, random: Random) -> Hit | None:
    """What waits in the queue of steps is shuffled."""
    with _nobody_listening(there):
        if not _soon(lambda: there.redis.llen(STEPS) >= 2):
            return None
        waiting = there.redis.lrange(STEPS, 0, -1)
        random.shuffle(waiting)
        for message in waiting:
            # Only what is still there is moved: what somebody takes meanwhile is theirs.
            there.redis.eval(MOVE, 1, STEPS, message)
    return Hit(_now())


def flush(there: Installation, _random: Random) -> Hit | None:
    """FLUSHALL in the middle of steps: the server has nothing any more."""
    if not _running(there):
        return None
    at = _now()
    there.redis.flushall()
    return Hit(at)


def lose_sql(there: Installation, random: Random) -> Hit | None:
    """Every connection to PostgreSQL is cut off and none is let in for a while; SQLite is locked for as long."""
    at, seconds = _now(), random.uniform(2, 7)
    if there.database_server is None:
        with sqlite3.connect(there.product.home / "pipelit.db", isolation_level=None, timeout=30) as rows:
            rows.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            rows.execute("ROLLBACK")
        rows.close()
    else:
        command_postgresql(there.database_server, f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS false")
        cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{DATABASE}'"
        command_postgresql(there.database_server, cut)
        time.sleep(seconds)
        command_postgresql(there.database_server, f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS true")
    return Hit(at, lasted_ms=_now() - at)


INJECTORS: Mapping[str, Injector] = {
    function.__name__: function
    for function in (
        kill_child,
        kill_worker,
        kill_parent,
        kill_web,
        kill_redis,
        kill_journal_writer,
        pause_child,
        pause_worker,
        pause_system,
        duplicate_delivery,
        drop_delivery,
        reorder_deliveries,
        flush,
        lose_sql,
    )
}


def _running(there: Installation) -> list[Claim]:
    """The attempts that processes of the pool are at; none if one of them has died before as often as it may."""
    worker = there.worker("steps")
    pool = set(children(worker)) if worker else set()
    claims = [claim for claim in _claims(there.redis) if claim.pid in pool]
    return [] if any(claim.task.attempt > MOST_ATTEMPTS for claim in claims) else claims


def _claims(redis: Redis) -> list[Claim]:
    found = []
    for key in redis.scan_iter("pipelit:x:*:meta", count=1000):
        execution_id = key.split(":")[2]
        fields: dict[str, Any] = redis.hgetall(key)
        for name, claim in fields.items():
            if not name.startswith("claim:"):
                continue
            attempt, owner, *_ = claim.split(" ")
            task = TaskId(execution_id, StepId.parse(name.removeprefix("claim:")), int(attempt))
            found.append(Claim(task, int(owner.rsplit("/", 2)[1].rpartition(".")[2])))
    return found


def _kill(pid: int, victims: tuple[TaskId, ...] = ()) -> Hit | None:
    at = _now()
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return Hit(at, victims)


def _kill_group(leader: int, victims: tuple[TaskId, ...] = ()) -> Hit | None:
    at = _now()
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return Hit(at, victims)


def _pause(pid: int, seconds: float, victims: tuple[TaskId, ...] = ()) -> Hit | None:
    at = _now()
    try:
        os.kill(pid, signal.SIGSTOP)
    except ProcessLookupError:
        return None
    threading.Timer(seconds, _signal, [pid, signal.SIGCONT]).start()
    return Hit(at, victims)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _is_step(message: Mapping[str, Any]) -> bool:
    return bool(message["headers"]["task"] == "pipelit.run_step")


@contextmanager
def _nobody_listening(there: Installation) -> Iterator[None]:
    """Hold up the worker that takes messages, but not those who run them: what is sent stays in the queue."""
    worker = there.worker("steps")
    if worker is not None:
        _signal(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        if worker is not None:
            _signal(worker, signal.SIGCONT)


def _soon(is_so: Callable[[], bool], seconds: float = 3.0) -> bool:
    """Whether something that comes and goes was so within some seconds; looked at as often as one can."""
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            return False
    return True


def _now() -> int:
    return time.time_ns() // 1_000_000
