"""People say how many executions of a workflow may run at once, and see what becomes of the others."""

from typing import Any

import pytest

from tests.api.conftest import Work
from tests.support.callers import Caller

GRAPH = {
    "nodes": [
        {"node_id": "start", "component_type": "trigger_manual"},
        {"node_id": "hook", "component_type": "trigger_webhook", "config": {"path": "orders"}},
        {"node_id": "greet", "component_type": "template", "config": {"template": "Hello {{ trigger.text }}"}},
    ],
    "edges": [
        {"source_node_id": "start", "target_node_id": "greet"},
        {"source_node_id": "hook", "target_node_id": "greet"},
    ],
}
LIMITS = {"max_concurrent": 1, "overlap": "queue", "serial_key": "{{ trigger.payload.customer }}"}
RUN = "/workflows/shop/execute/"

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"max_concurrent": 0}, "max_concurrent", "greater than or equal to 1"),
    ({"max_concurrent": "2"}, "max_concurrent", "integer"),
    ({"overlap": "wait"}, "overlap", "Must be one of"),
    ({"overlap": None}, "overlap", "null"),
    ({"serial_key": "{{ trigger.payload. }}"}, "serial_key", "expected"),
    ({"serial_key": "{{ start.text }}"}, "serial_key", "'start'"),
    ({"serial_key": "{% for x in trigger %}{{ y }}{% endfor %}"}, "serial_key", "'y'"),
    ({"serial_key": "x" * 1001}, "serial_key", "1000"),
]


def shop(caller: Caller, **about: Any) -> None:
    """A workflow with these limits."""
    made = caller.post("/workflows/", {"name": "Shop", "slug": "shop", **about})
    assert made.status_code == 201, made.text
    assert caller.put("/workflows/shop/graph/", GRAPH).status_code == 200


def test_the_limits_of_a_workflow_are_shown_changed_and_travel_with_it(normal: Caller) -> None:
    shop(normal, **LIMITS)

    seen = normal.get("/workflows/shop/").json
    document = normal.get("/workflows/shop/graph/").json["workflow"]
    copy = normal.post("/workflows/shop/duplicate/", {}).json
    changed = normal.patch("/workflows/shop/", {"overlap": "drop", "max_concurrent": None, "serial_key": ""}).json

    for known in (seen, document, copy):
        assert {name: known[name] for name in LIMITS} == LIMITS
    assert (changed["overlap"], changed["max_concurrent"], changed["serial_key"]) == ("drop", None, "")


def test_a_new_workflow_has_no_limit(normal: Caller) -> None:
    made = normal.post("/workflows/", {"name": "Shop"}).json

    assert (made["max_concurrent"], made["overlap"], made["serial_key"]) == (None, "queue", None)


@pytest.mark.parametrize(("changes", "field", "said"), REFUSED)
def test_a_limit_that_makes_no_sense_is_refused_and_the_field_named(
    normal: Caller, changes: dict[str, Any], field: str, said: str
) -> None:
    shop(normal, **LIMITS)

    answers = {
        "made": normal.post("/workflows/", {"name": "Other", **changes}),
        "changed": normal.patch("/workflows/shop/", changes),
    }
    replaced = normal.put("/workflows/shop/graph/", {**GRAPH, "workflow": changes})

    for answer in answers.values():
        assert answer.status_code == 422, answer.text
        assert said in str(answer.json["errors"][field])
    assert (replaced.status_code, set(replaced.json["errors"])) == (422, {f"workflow.{field}"})
    assert normal.get("/workflows/shop/").json[field] == LIMITS[field]


def test_one_beyond_the_limit_is_accepted_and_waits(admin: Caller, work: Work) -> None:
    shop(admin, max_concurrent=1)

    first, second = (admin.post(RUN, {"trigger_node_id": "start", "text": name}) for name in ("Ada", "Bob"))
    assert [answer.status_code for answer in (first, second)] == [202, 202]
    assert admin.get(f"/executions/{second.json['execution_id']}/").json["status"] == "pending"
    work()

    found = [admin.get(f"/executions/{answer.json['execution_id']}/").json for answer in (first, second)]
    assert [one["final_output"] for one in found] == ["Hello Ada", "Hello Bob"]
    assert found[0]["completed_at"] <= found[1]["started_at"]


def test_one_that_is_dropped_is_answered_as_what_it_is(admin: Caller) -> None:
    shop(admin, max_concurrent=1, overlap="drop")
    start = {"trigger_node_id": "start"}
    admin.post(RUN, start)

    dropped = admin.post(RUN, start)
    waited = admin.post(f"{RUN}?wait=10", start)

    assert (dropped.status_code, dropped.json["status"]) == (202, "cancelled")
    found = admin.get(f"/executions/{dropped.json['execution_id']}/").json
    assert (found["error_code"], found["started_at"], found["logs"]) == ("dropped", None, [])
    assert found["time"]["wall_ms"] is None
    assert (waited.status_code, waited.json["error_code"]) == (200, "dropped")
    events = admin.get(f"/executions/{dropped.json['execution_id']}/events/").json["items"]
    assert [event["type"] for event in events] == ["execution_cancelled"]


def test_one_that_a_newer_one_replaces_says_so(admin: Caller, work: Work) -> None:
    shop(admin, max_concurrent=1, overlap="cancel_previous")

    first, second = (admin.post(RUN, {"trigger_node_id": "start", "text": name}) for name in ("Ada", "Bob"))
    work()

    found = [admin.get(f"/executions/{answer.json['execution_id']}/").json for answer in (first, second)]
    assert [(one["status"], one["error_code"]) for one in found] == [("cancelled", "superseded"), ("completed", None)]


def test_a_call_that_has_no_key_is_refused(admin: Caller, anonymous: Caller) -> None:
    shop(admin, max_concurrent=1, serial_key="{{ trigger.body.customer }}")

    refused = anonymous.post("/webhooks/orders", {"name": "Ada"})
    accepted = anonymous.post("/webhooks/orders", {"customer": "ada"})

    assert (refused.status_code, set(refused.json["errors"])) == (422, {"serial_key"})
    assert "customer" in refused.json["detail"]
    assert accepted.status_code == 202
    assert admin.get("/executions/").json["total"] == 1
