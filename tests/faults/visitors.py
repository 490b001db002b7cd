"""Those who use the product during a run: callers who insist on an answer, and a person who approves everything."""

import http.client
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from pipelit.models.execution import LIVE
from tests.faults import oracle
from tests.faults.product import Installation
from tests.faults.tickets import Fate, Retrial, Ticket, Wish
from tests.faults.workflows import START, Drawing
from tests.support.product import Answer

OUTAGES = (OSError, http.client.HTTPException)
"""What a caller sees of a server that dies."""


class Refused(AssertionError):
    """The product said that a sound request is wrong."""


def fire(there: Installation, drawing: Drawing, number: str, choice: str, *, patience: float) -> Ticket:
    """Start a workflow, asking again under the same key until there is an answer, or patience ends."""
    given = {"ticket": number, "choice": choice}
    path, body = f"/api/v1/webhooks/{drawing.name}", given
    if drawing.trigger == "manual":
        path, body = f"/api/v1/workflows/{drawing.name}/execute/", {"payload": given}
    return _insist(there, path, body, Ticket(number, drawing.name, choice, is_accepted=False), patience)


def meddle(there: Installation, drawing: Drawing, ticket: Ticket, wish: Wish, *, patience: float) -> Fate:
    """Do with an execution what is wished, as soon as it has been accepted."""
    fate = Fate(ticket.number, wish)
    if ticket.execution_id is None:
        return fate
    if wish.cancelled_after is not None:
        time.sleep(wish.cancelled_after)
        fate = replace(fate, cancel=_cancel(there, ticket.execution_id, patience))
    if wish.is_retried:
        fate = replace(fate, retrial=_retry(there, drawing, ticket, wish.node, patience))
    return fate


def _cancel(there: Installation, execution_id: str, patience: float) -> str | None:
    """What the product says that became of it; None if it says nothing, or that it was too late."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        answer = _asked(there, f"/api/v1/executions/{execution_id}/cancel/", {}, {})
        if answer is not None and answer.status == 200:
            return str(answer.body["status"])
        if answer is not None and answer.status == 409:
            return None
        _refuse_refusals(answer)
        time.sleep(0.5)
    return None


def _retry(there: Installation, drawing: Drawing, ticket: Ticket, node: str | None, patience: float) -> Retrial | None:
    """Retry an execution once it has ended, under another number; None if it does not end as it should."""
    until = time.monotonic() + patience
    while (status := _status(there, ticket.execution_id)) in (None, *LIVE) and time.monotonic() < until:
        time.sleep(1)
    if status not in ("completed", "cancelled"):
        return None
    number = f"{ticket.number}r"
    given = {"ticket": number, "choice": ticket.choice}
    body = {"from_node_id": node, "inputs": {START: {drawing.given: given}}}
    path = f"/api/v1/executions/{ticket.execution_id}/retry/"
    asked = Ticket(number, ticket.workflow, ticket.choice, is_accepted=False)
    before = _succeeded(there, ticket.execution_id)
    retried = _insist(there, path, {name: told for name, told in body.items() if told is not None}, asked, patience)
    # What has completed runs as a whole, unless one says from where.
    first = START if node is None and status == "completed" else node
    again = drawing.following(first) if first is not None else frozenset()
    return Retrial(retried, again, before, _succeeded(there, ticket.execution_id))


def _status(there: Installation, execution_id: str | None) -> str | None:
    query = "SELECT status FROM workflow_executions WHERE execution_id = :wanted"
    try:
        found = there.rows(query, wanted=execution_id)
    except SQLAlchemyError:
        return None  # cut off, like everybody else
    return str(found[0]["status"]) if found else None


def _succeeded(there: Installation, execution_id: str | None) -> frozenset[str]:
    while True:
        try:
            return frozenset(name for _, name in oracle.attempts(there, execution_id or "").succeeded)
        except SQLAlchemyError:
            time.sleep(0.5)  # cut off, like everybody else


def _insist(there: Installation, path: str, body: object, ticket: Ticket, patience: float) -> Ticket:
    """Ask again under the same key until there is an answer, or patience ends."""
    until = time.monotonic() + patience
    while True:
        answer = _asked(there, path, body, {"Idempotency-Key": f"ticket-{ticket.number}"})
        if answer is not None and answer.status == 202:
            return replace(ticket, is_accepted=True, execution_id=answer.body["execution_id"])
        _refuse_refusals(answer)
        if time.monotonic() > until:
            return ticket
        time.sleep(0.5)


def _asked(there: Installation, path: str, body: object, headers: Mapping[str, str]) -> Answer | None:
    """What the server says; None if it dies before it has said anything."""
    try:
        return there.product.call("POST", path, body, **headers)
    except OUTAGES:
        return None


def _refuse_refusals(answer: Answer | None) -> None:
    """Raises `Refused` for an answer after which it makes no sense to ask again."""
    if answer is None or answer.status >= 500 or answer.status == 429:
        return
    code = answer.body.get("code") if isinstance(answer.body, dict) else None
    if code != "request_in_progress":
        raise Refused(answer)


@dataclass
class Approver:
    """Looks for questions and answers all of them, for the length of a `with` block."""

    there: Installation
    answered: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Approver":
        self._thread = threading.Thread(target=self._work, name="approver", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._ended.wait(0.5):
            for question in self._questions():
                self._answer(question)

    def _questions(self) -> list[Mapping[str, Any]]:
        try:
            return self.there.rows("SELECT DISTINCT execution_id, node_id FROM pending_tasks")
        except SQLAlchemyError:
            return []  # cut off, like everybody else

    def _answer(self, question: Mapping[str, Any]) -> None:
        path = f"/api/v1/executions/{question['execution_id']}/resume/"
        answer = _asked(self.there, path, {"node_id": question["node_id"], "decision": "approve"}, {})
        if answer is not None and answer.status == 200:
            self.answered += 1
        elif answer is not None and answer.status not in (409, 429) and answer.status < 500:
            raise Refused(answer)
