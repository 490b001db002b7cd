"""People see what waits for them and answer it; strangers resume what they were sent an address of."""

from itertools import pairwise
from typing import Any

import pytest
from flask import Flask

from pipelit.engine.runtime import engine
from tests.api.conftest import Work
from tests.support.callers import PREFIX, Caller

ASK = {
    "node_id": "ask",
    "component_type": "human_confirmation",
    "config": {
        "prompt": "Refund?",
        "form": [{"name": "reason", "type": "text", "required": True}],
        "approvers": ["grace"],
        "timeout_seconds": 3600,
    },
}
START = {"node_id": "start", "component_type": "trigger_manual"}


def run(caller: Caller, work: Work, app: Flask, *nodes: dict[str, Any], **about: Any) -> str:
    """Start a new workflow of these nodes in a row; the execution's id."""
    slug = caller.post("/workflows/", {"name": "Asking", **about}).json["slug"]
    chain = [START, *nodes]
    edges = [{"source_node_id": a["node_id"], "target_node_id": b["node_id"]} for a, b in pairwise(chain)]
    answer = caller.put(f"/workflows/{slug}/graph/", {"nodes": chain, "edges": edges})
    assert answer.status_code == 200, answer.text
    execution_id = caller.post(f"/workflows/{slug}/execute/").json["execution_id"]
    work()
    with app.app_context():
        engine().drain_journal()
    return str(execution_id)


def waiting(**config: Any) -> dict[str, Any]:
    return {"node_id": "pause", "component_type": "wait", "config": {"external": True, **config}}


SAY = {"node_id": "say", "component_type": "template", "config": {"template": "{{ pause.output }}"}}


def test_what_waits_is_listed_for_those_who_may_answer(
    admin: Caller, normal: Caller, stranger: Caller, work: Work, app: Flask
) -> None:
    execution_id = run(admin, work, app, ASK)

    for caller in (admin, normal):
        (question,) = caller.get("/approvals/").json["items"]
        assert (question["execution_id"], question["workflow_slug"]) == (execution_id, "asking")
        assert (question["node_id"], question["step"], question["kind"]) == ("ask", "ask", "approval")
        assert (question["prompt"], question["resume_url"]) == ("Refund?", None)
        assert question["form"] == [
            {"name": "reason", "label": "reason", "type": "text", "required": True, "options": []}
        ]
        assert question["expires_at"].endswith("Z")
    assert stranger.get("/approvals/").json == {"items": [], "total": 0}
    assert admin.get("/approvals/?workflow_slug=other").json["total"] == 0
    assert admin.get(f"/approvals/?execution_id={execution_id}&limit=1").json["total"] == 1


def test_an_answer_is_checked_field_by_field_and_counts_once(
    admin: Caller, normal: Caller, stranger: Caller, work: Work, app: Flask
) -> None:
    address = f"/executions/{run(admin, work, app, ASK)}/resume/"
    task_id = normal.get("/approvals/").json["items"][0]["task_id"]

    assert stranger.post(address, {"data": {"reason": "mine"}}).status_code == 404
    refused = normal.post(address, {"data": {"colour": "red"}})
    assert (refused.status_code, set(refused.json["errors"])) == (422, {"data.colour", "data.reason"})
    assert normal.post(address, {"task_id": "another"}).status_code == 409
    answered = normal.post(address, {"task_id": task_id, "data": {"reason": "broken"}})
    assert (answered.status_code, answered.json["status"]) == (200, "completed")
    assert admin.post(address, {"data": {"reason": "again"}}).status_code == 409
    late = normal.post(address, {"data": {"reason": "again"}})
    assert (late.status_code, late.json["code"]) == (409, "wrong_state")
    assert stranger.post(address, {"data": {"reason": "mine"}}).status_code == 404
    work()
    assert normal.post(address, {"data": {"reason": "again"}}).status_code == 409
    assert stranger.post(address, {"data": {"reason": "mine"}}).status_code == 404
    assert admin.post(address, {"data": {"reason": "again"}}).status_code == 409

    assert admin.get(address.removesuffix("resume/")).json["final_output"]["decided_by"] == "grace"


def test_a_viewer_sees_the_execution_and_has_no_say(admin: Caller, stranger: Caller, work: Work, app: Flask) -> None:
    execution_id = run(admin, work, app, ASK, is_public=True)

    assert stranger.get(f"/executions/{execution_id}/").status_code == 200
    assert stranger.get("/approvals/").json["total"] == 0
    assert stranger.post(f"/executions/{execution_id}/resume/").status_code == 403


def address_of(caller: Caller) -> str:
    (question,) = caller.get("/approvals/").json["items"]
    return str(question["resume_url"]).partition(PREFIX)[2]


def test_who_knows_the_address_resumes_once_with_what_they_send(
    admin: Caller, anonymous: Caller, work: Work, app: Flask
) -> None:
    execution_id = run(admin, work, app, waiting(), SAY)
    address = address_of(admin)

    assert anonymous.get(address).status_code == 405
    assert anonymous.send("POST", address, data=b"{", content_type="application/json").status_code == 422
    first = anonymous.post(address, {"answer": 42})
    assert (first.status_code, first.json) == (200, {"status": "resumed"})
    again = anonymous.post(address, {"answer": 43})
    assert (again.status_code, again.json["code"]) == (409, "conflict")
    work()
    assert anonymous.post(address, {}).json["code"] == "wrong_state"

    assert admin.get(f"/executions/{execution_id}/").json["final_output"] == {"answer": 42}


@pytest.mark.parametrize(("query", "output"), [("?a=1&b=x", {"a": "1", "b": "x"}), ("", {"payload": {}, "text": ""})])
def test_a_link_may_be_enough(
    admin: Caller, anonymous: Caller, work: Work, app: Flask, query: str, output: Any
) -> None:
    execution_id = run(admin, work, app, waiting(resume_by_get=True), SAY)

    assert anonymous.get(address_of(admin) + query).status_code == 200
    work()

    found = admin.get(f"/executions/{execution_id}/").json
    assert found["status"] == "completed"
    if query:
        assert found["final_output"] == output


def test_an_address_cannot_be_guessed_or_changed(admin: Caller, anonymous: Caller, work: Work, app: Flask) -> None:
    run(admin, work, app, waiting(), SAY)
    address = address_of(admin)
    named, _, proof = address.removeprefix("/resume/").removesuffix("/").partition(".")
    other = "A" + proof[1:] if proof[0] != "A" else "B" + proof[1:]

    for token in (
        "x",
        "x.y",
        named,
        f"{named}.",
        f"{named}.{other}",
        f".{proof}",
        f"{named[:-4]}.{proof}",
        "%00",
        "é.é",
    ):
        for method in ("GET", "POST"):
            answer = anonymous.send(method, f"/resume/{token}/")
            assert (answer.status_code, answer.json["code"]) == (404, "not_found"), token
    assert anonymous.post(address).status_code == 200


def test_an_address_can_be_sent_before_anything_waits_and_does_nothing_until_then(
    admin: Caller, anonymous: Caller, work: Work, app: Flask
) -> None:
    tell = {
        "node_id": "tell",
        "component_type": "template",
        "config": {"template": "{{ execution.resume_urls.pause }} of {{ execution.id }}"},
    }
    held = {**waiting(), "interrupt_before": True}
    execution_id = run(admin, work, app, tell, held, SAY)
    logs = admin.get(f"/executions/{execution_id}/").json["logs"]
    url, _, told = logs[-1]["output"]["output"].partition(" of ")
    assert told == execution_id
    address = url.partition(PREFIX)[2]

    assert anonymous.post(address, {"early": True}).json["code"] == "conflict"
    assert admin.post(f"/executions/{execution_id}/resume/").status_code == 200
    work()
    assert anonymous.post(address, {"early": False}).status_code == 200
    work()

    assert admin.get(f"/executions/{execution_id}/").json["final_output"] == {"early": False}


def test_an_address_of_a_deleted_execution_leads_nowhere(
    admin: Caller, anonymous: Caller, work: Work, app: Flask
) -> None:
    execution_id = run(admin, work, app, waiting(), SAY)
    address = address_of(admin)
    assert admin.post(f"/executions/{execution_id}/cancel/").status_code == 200

    assert anonymous.post(address).status_code == 409
    assert admin.delete(f"/executions/{execution_id}/").status_code == 204
    assert anonymous.post(address).status_code == 404
