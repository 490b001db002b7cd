"""Callers who ask again because the web server was killed: they get the one execution of theirs, and soon."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pytest

from tests.faults.injectors import kill_web_processes
from tests.faults.product import Installation, command_postgresql, installation
from tests.faults.visitors import OUTAGES
from tests.support.product import Answer, wait_until

pytestmark = pytest.mark.product

BEFORE_ITS_EFFECT = "INSERT ON workflow_executions FOR EACH ROW"
BEFORE_ITS_ANSWER = "UPDATE ON idempotency_records FOR EACH ROW WHEN (NEW.status <> 102)"
FOR_EVER = "SELECT count(*) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n)"
SLEEPING = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
SOON = 60.0
"""Seconds, most of them for a web server to start on a busy machine. A key that nobody gives up is kept for 120."""


@dataclass(frozen=True)
class Caller:
    """Somebody who starts a workflow of theirs again and again, under one key for each time."""

    there: Installation
    path: str

    def ask(self, key: str) -> Answer | None:
        try:
            return self.there.product.call("POST", self.path, {"payload": {}}, **{"Idempotency-Key": key})
        except OUTAGES:
            return None

    def insist(self, key: str) -> Answer:
        """Ask again until there is an answer."""
        answers: list[Answer] = []

        def is_answered() -> bool:
            answer = self.ask(key)
            if answer is None or answer.status >= 500 or answer.status == 409:
                assert answer is None or answer.status != 409 or answer.body["code"] == "request_in_progress", answer
                return False
            answers.append(answer)
            return True

        wait_until(is_answered, "the caller is answered", seconds=SOON, or_else=self.there.said)
        return answers[0]


@contextmanager
def held_up(there: Installation, where: str) -> Iterator[None]:
    """Whatever comes to a place in the database stays there, until the block ends."""
    if there.database_server is None:
        _execute(there, f"CREATE TRIGGER held_up BEFORE {where} BEGIN {FOR_EVER}; END")
    else:
        body = "BEGIN PERFORM pg_sleep(600); RETURN NEW; END"
        _execute(there, f"CREATE OR REPLACE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS '{body}'")
        _execute(there, f"CREATE TRIGGER held_up BEFORE {where} EXECUTE FUNCTION wait()")
    try:
        yield
    finally:
        if there.database_server is None:
            _execute(there, "DROP TRIGGER held_up")
        else:
            table = where.split()[2]
            _execute(there, SLEEPING)
            _execute(there, f"DROP TRIGGER held_up ON {table}")


def test_who_asks_again_after_the_web_server_was_killed_gets_the_one_execution_soon(database_kind: str) -> None:
    with installation(database_kind, lease_seconds=4.0, visibility_timeout=15) as there:
        for number, caller in enumerate((_by_hand(there), _by_webhook(there))):
            for place in (BEFORE_ITS_EFFECT, BEFORE_ITS_ANSWER):
                key = f"key-{number}-{place.split()[0]}"
                before = _executions(there)
                with held_up(there, place):
                    _ask_and_be_killed(caller, key, is_carried_out=place == BEFORE_ITS_ANSWER)

                first, again = caller.insist(key), caller.insist(key)

                (made,) = _executions(there) - before
                assert (first.status, first.body["execution_id"]) == (202, made)
                assert (again.status, again.body["execution_id"]) == (202, made)


def _ask_and_be_killed(caller: Caller, key: str, *, is_carried_out: bool) -> None:
    """Ask once, and kill the web server when the request has come to where it is held up."""
    state = "status = 102" if is_carried_out else "status IS NULL"
    query = f"SELECT 1 FROM idempotency_records WHERE key = '{key}' AND {state}"
    asking = threading.Thread(target=caller.ask, args=[key])
    asking.start()
    wait_until(lambda: bool(caller.there.rows(query)), "the request is under way", or_else=caller.there.said)
    assert kill_web_processes(caller.there) is not None
    asking.join()


def _by_hand(there: Installation) -> Caller:
    _draw(there, "by-hand", {"node_id": "start", "component_type": "trigger_manual"})
    return Caller(there, "/api/v1/workflows/by-hand/execute/")


def _by_webhook(there: Installation) -> Caller:
    start = {"node_id": "start", "component_type": "trigger_webhook", "config": {"path": "by-webhook"}}
    _draw(there, "by-webhook", start)
    return Caller(there, "/api/v1/webhooks/by-webhook")


def _draw(there: Installation, slug: str, start: dict[str, object]) -> None:
    assert there.product.call("POST", "/api/v1/workflows/", {"name": slug, "slug": slug}).status == 201
    end = {"node_id": "end", "component_type": "template", "config": {"template": "done"}}
    edges = [{"source_node_id": "start", "target_node_id": "end"}]
    put = there.product.call("PUT", f"/api/v1/workflows/{slug}/graph/", {"nodes": [start, end], "edges": edges})
    assert put.status == 200, put


def _executions(there: Installation) -> set[str]:
    return {row["execution_id"] for row in there.rows("SELECT execution_id FROM workflow_executions")}


def _execute(there: Installation, statement: str) -> None:
    if there.database_server is not None:
        command_postgresql(there.database_url, statement)
        return
    with closing(sqlite3.connect(there.product.home / "pipelit.db", isolation_level=None, timeout=30)) as rows:
        rows.execute(statement)
