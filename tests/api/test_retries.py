"""People run again what failed, over HTTP."""

from flask import Flask

from tests.api.conftest import Work
from tests.api.test_executions import make
from tests.support.callers import Caller

PARTS = {
    "nodes": [
        {"node_id": "start", "component_type": "trigger_manual"},
        {"node_id": "greet", "component_type": "template", "config": {"template": "Hello {{ trigger.text }}"}},
        {"node_id": "shout", "component_type": "template", "config": {"template": "{{ greet.output | upper }}"}},
    ],
    "edges": [
        {"source_node_id": "start", "target_node_id": "greet"},
        {"source_node_id": "greet", "target_node_id": "shout"},
    ],
}
RUN = "/workflows/greeting/execute/"


def ended(caller: Caller, work: Work) -> str:
    """The address of an execution that has ended."""
    make(caller, "greeting", PARTS)
    execution_id = caller.post(RUN, {"text": "Ada"}).json["execution_id"]
    work()
    return f"/executions/{execution_id}/"


def test_from_a_node_on_with_edited_inputs_and_once_for_a_key(admin: Caller, work: Work) -> None:
    address = ended(admin, work)
    wanted = {"from_node_id": "shout", "inputs": {"greet": {"output": "good night"}}}

    first = admin.post(f"{address}retry/", wanted, headers={"Idempotency-Key": "again"})
    second = admin.post(f"{address}retry/", wanted, headers={"Idempotency-Key": "again"})
    work()

    assert (first.status_code, first.json) == (202, second.json)
    found = admin.get(f"/executions/{first.json['execution_id']}/").json
    assert (found["status"], found["final_output"]) == ("completed", "GOOD NIGHT")
    assert (found["retried_from_id"], found["retried_from_step"]) == (address.split("/")[2], "shout")
    notes = {log["node_id"]: log["metadata"] for log in found["logs"]}
    assert notes["greet"] == {"reused_from": found["retried_from_id"], "edited": True}
    assert notes["shout"] is None
    assert admin.get("/executions/").json["total"] == 2
    assert admin.get(address).json["final_output"] == "HELLO ADA"


def test_without_a_body_what_completed_runs_as_a_whole(admin: Caller, work: Work) -> None:
    address = ended(admin, work)

    again = admin.post(f"{address}retry/")
    work()

    found = admin.get(f"/executions/{again.json['execution_id']}/").json
    assert (again.status_code, found["final_output"], found["retried_from_step"]) == (202, "HELLO ADA", "start")


def test_what_cannot_be_retried_is_refused(admin: Caller, normal: Caller, work: Work, app: Flask) -> None:
    address = ended(admin, work)
    live = admin.post(RUN, {"text": "Ada"}).json["execution_id"]

    assert admin.post(f"/executions/{live}/retry/").json["code"] == "wrong_state"
    unknown = admin.post(f"{address}retry/", {"from_node_id": "nobody"})
    assert (unknown.status_code, set(unknown.json["errors"])) == (422, {"from_node_id"})
    made = admin.post(f"{address}retry/", {"inputs": {"greet": {"output": 1}}})
    assert (made.status_code, set(made.json["errors"])) == (422, {"inputs.greet"})
    assert normal.post(f"{address}retry/").status_code == 404
    share = {"username": normal.username, "role": "viewer"}
    assert admin.post("/workflows/greeting/collaborators/", share).status_code in (200, 201)
    assert normal.post(f"{address}retry/").status_code == 403
