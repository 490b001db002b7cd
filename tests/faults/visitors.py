"""Those who use the product during a run: callers who insist on an answer, and a person who approves everything."""

import http.client
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from tests.faults.oracle import Ticket
from tests.faults.product import Installation
from tests.faults.workflows import Drawing
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
    until = time.monotonic() + patience
    while True:
        if _is_accepted(_asked(there, path, body, {"Idempotency-Key": f"ticket-{number}"})):
            return Ticket(number, drawing.name, choice, is_accepted=True)
        if time.monotonic() > until:
            return Ticket(number, drawing.name, choice, is_accepted=False)
        time.sleep(0.5)


def _asked(there: Installation, path: str, body: object, headers: Mapping[str, str]) -> Answer | None:
    """What the server says; None if it dies before it has said anything."""
    try:
        return there.product.call("POST", path, body, **headers)
    except OUTAGES:
        return None


def _is_accepted(answer: Answer | None) -> bool:
    """Whether the product took the trigger: it says so, or that it did and does not know its answer any more."""
    if answer is None or answer.status >= 500 or answer.status == 429:
        return False
    code = answer.body.get("code") if isinstance(answer.body, dict) else None
    if answer.status == 409 and code in ("request_in_progress", "answer_lost"):
        return bool(code == "answer_lost")
    if answer.status != 202:
        raise Refused(answer)
    return True


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
