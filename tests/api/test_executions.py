"""People start executions, look at them, stop them, answer them and put them away."""

import json
from typing import Any

import pytest
from flask import Flask

from pipelit.api.live import EXTENSION, Live
from tests.api.conftest import Work, working
from tests.support.callers import Caller

GREETING = {
    "nodes": [
        {"node_id": "start", "component_type": "trigger_manual"},
        {"node_id": "greet", "component_type": "template", "config": {"template": "Hello {{ trigger.text }}"}},
    ],
    "edges": [{"source_node_id": "start", "target_node_id": "greet"}],
}


@pytest.fixture
def greeting(admin: Caller, app: Flask) -> Any:
    """The address of a workflow that greets."""
    make(admin, "greeting", GREETING)
    yield "/workflows/greeting/execute/"
    live: Live = app.extensions[EXTENSION]
    live.hub.stop()


def make(caller: Caller, slug: str, graph: dict[str, Any], **about: Any) -> None:
    assert caller.post("/workflows/", {"name": slug.title(), "slug": slug, **about}).status_code == 201
    answer = caller.put(f"/workflows/{slug}/graph/", graph)
    assert answer.status_code == 200, answer.text


def held(flag: str = "interrupt_before") -> dict[str, Any]:
    """The greeting, with a person asked before it."""
    start, greet = GREETING["nodes"]
    return {**GREETING, "nodes": [start, {**greet, flag: True}]}


def test_an_execution_is_started_and_everything_about_it_can_be_read(admin: Caller, greeting: str, work: Work) -> None:
    started = admin.post(greeting, {"text": "Ada", "payload": {"vip": True}})
    assert started.status_code == 202
    assert started.json["status"] in ("pending", "running")
    work()

    found = admin.get(f"/executions/{started.json['execution_id']}/").json

    assert (found["status"], found["final_output"], found["error_message"]) == ("completed", "Hello Ada", None)
    assert (found["workflow_slug"], found["trigger_node_id"], found["trigger"]) == ("greeting", "start", "manual")
    assert found["trigger_payload"] == {"payload": {"vip": True}, "text": "Ada"}
    assert (found["workflow_version"], found["children"], found["parent_execution_id"]) == (1, [], None)
    assert found["duration_ms"] >= 0
    assert found["completed_at"].endswith("Z")
    start, greet = found["logs"]
    assert (start["node_id"], start["status"]) == ("start", "success")
    assert (greet["input"], greet["output"]) == ({"template": "Hello Ada"}, {"output": "Hello Ada"})
    assert (greet["component_type"], greet["scope"], greet["attempt"], greet["error"]) == ("template", "", 1, None)
    assert greet["duration_ms"] >= 0
    spent = {kind: greet[kind] for kind in ("queued_ms", "resolve_ms", "run_ms", "commit_ms")}
    assert min(spent.values()) >= 0
    assert found["time"] == {
        **spent,
        "waiting_ms": 0,
        "wall_ms": pytest.approx(sum(spent.values()), abs=0.002),
    }


def test_whoever_waits_gets_the_whole_execution(admin: Caller, greeting: str, app: Flask) -> None:
    with working(app):
        ended = admin.post(f"{greeting}?wait=20", {"text": "Ada"})

    assert (ended.status_code, ended.json["status"], ended.json["final_output"]) == (200, "completed", "Hello Ada")
    assert [log["node_id"] for log in ended.json["logs"]] == ["start", "greet"]


def test_whoever_waits_in_vain_gets_the_id(admin: Caller, greeting: str) -> None:
    started = admin.post(f"{greeting}?wait=1", {"text": "Ada"})

    assert (started.status_code, set(started.json)) == (202, {"execution_id", "status"})


def test_the_same_key_starts_one_execution(admin: Caller, greeting: str) -> None:
    headers = {"Idempotency-Key": "order-1"}

    first, second = (admin.post(greeting, {"text": "Ada"}, headers=headers) for _ in range(2))

    assert first.json == second.json
    assert second.headers["Idempotent-Replayed"] == "true"
    assert admin.get("/executions/").json["total"] == 1
    assert admin.post(greeting, {"text": "Bob"}, headers=headers).json["code"] == "idempotency_conflict"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"trigger_node_id": "greet"}, "trigger_node_id"),
        ({"trigger_node_id": "nobody"}, "trigger_node_id"),
        ({"trigger_node_id": 7}, "trigger_node_id"),
        ({"payload": []}, "payload"),
        ({"text": 5}, "text"),
        ({"speed": "fast"}, "speed"),
        ({"text": "nul \x00"}, "text"),
        ({"payload": {"half": "\ud800"}}, "payload.half"),
    ],
)
def test_what_cannot_start_is_refused(admin: Caller, greeting: str, body: dict[str, Any], field: str) -> None:
    refused = admin.post(greeting, body)

    assert refused.status_code == 422
    assert field in refused.json["errors"]
    assert admin.get("/executions/").json["total"] == 0


@pytest.mark.parametrize("wait", ["61", "-1", "soon", "1e9", ""])
def test_nobody_waits_for_ever(admin: Caller, greeting: str, wait: str) -> None:
    assert admin.post(f"{greeting}?wait={wait}").status_code == 422


def test_a_payload_that_is_too_deep_or_too_large_is_refused(admin: Caller, greeting: str) -> None:
    deep: Any = {}
    for _ in range(200):
        deep = {"a": deep}
    assert admin.post(greeting, {"payload": deep}).status_code == 422
    assert admin.post(greeting, {"text": "x" * 10_000_000}).status_code in (413, 422)
    huge = admin.send("POST", greeting, data=b"[" * 100_000, headers={"Content-Type": "application/json"})
    assert huge.status_code == 422


def test_a_workflow_that_cannot_run_says_everything_that_is_wrong(admin: Caller, greeting: str) -> None:
    broken = {"node_id": "oops", "component_type": "template", "config": {"template": "{{ nobody.output }}"}}
    graph = {
        "nodes": [*GREETING["nodes"], broken],
        "edges": [*GREETING["edges"], {"source_node_id": "greet", "target_node_id": "oops"}],
    }
    make(admin, "broken", graph)

    refused = admin.post("/workflows/broken/execute/")

    assert (refused.status_code, refused.json["code"]) == (422, "invalid_graph")
    assert refused.json["problems"][0]["node_id"] == "oops"
    assert admin.get("/executions/").json["total"] == 0


def test_the_list_is_narrowed_down_and_goes_in_pages(admin: Caller, greeting: str, work: Work) -> None:
    make(admin, "other", GREETING)
    ids = [admin.post(greeting, {"text": "x"}).json["execution_id"] for _ in range(3)]
    work()
    ids.append(admin.post("/workflows/other/execute/").json["execution_id"])

    def listed(query: str) -> list[str]:
        answer = admin.get(f"/executions/?{query}")
        assert answer.status_code == 200, answer.text
        return [row["execution_id"] for row in answer.json["items"]]

    assert listed("") == ids[::-1]
    assert listed("limit=2&offset=1") == ids[::-1][1:3]
    assert listed("workflow_slug=other") == ids[3:]
    assert listed("status=completed") == ids[2::-1]
    assert listed(f"search={ids[0][:13]}") == ids[:1]
    assert listed("search=Other") == ids[3:]
    assert listed("trigger=webhook") == []
    assert listed("since=2999-01-01T00:00:00Z") == []
    assert len(listed("until=2999-01-01T00:00:00%2B02:00")) == 4
    row = admin.get("/executions/?limit=1").json["items"][0]
    assert {"logs", "final_output", "trigger_payload"}.isdisjoint(row)


@pytest.mark.parametrize(
    "query", ["status=done", "since=yesterday", "since=2026-01-01T00:00:00", "limit=0", "limit=201", "colour=red"]
)
def test_a_list_that_makes_no_sense_is_refused(admin: Caller, query: str) -> None:
    assert admin.get(f"/executions/?{query}").status_code == 422


def test_the_events_are_there_while_it_runs_and_afterwards(admin: Caller, greeting: str, work: Work) -> None:
    execution_id = admin.post(greeting, {"text": "Ada"}).json["execution_id"]
    address = f"/executions/{execution_id}/events/"
    live = admin.get(address).json["items"]
    assert [event["type"] for event in live] == ["execution_started", "node_status"]

    work()

    kept = admin.get(address).json["items"]
    assert [event["seq"] for event in kept] == [1, 2, 3, 4, 5]
    assert kept[:2] == live
    assert kept[-1]["data"]["output"] == "Hello Ada"
    assert [event["seq"] for event in admin.get(f"{address}?after=3").json["items"]] == [4, 5]
    assert [event["seq"] for event in admin.get(f"{address}?limit=2").json["items"]] == [1, 2]
    assert admin.get(f"{address}?after=-1").status_code == 422


def test_an_execution_is_cancelled_once(admin: Caller, greeting: str, work: Work) -> None:
    execution_id = admin.post(greeting, {"text": "Ada"}).json["execution_id"]

    cancelled = admin.post(f"/executions/{execution_id}/cancel/")

    assert (cancelled.status_code, cancelled.json["status"]) == (200, "cancelled")
    again = admin.post(f"/executions/{execution_id}/cancel/")
    assert (again.status_code, again.json["code"]) == (409, "wrong_state")
    work()
    assert admin.get(f"/executions/{execution_id}/").json["status"] == "cancelled"


def test_a_person_lets_an_execution_go_on(admin: Caller, greeting: str, work: Work) -> None:
    make(admin, "asking", held())
    execution_id = admin.post("/workflows/asking/execute/", {"text": "Ada"}).json["execution_id"]
    work()
    assert admin.get(f"/executions/{execution_id}/").json["status"] == "interrupted"

    resumed = admin.post(f"/executions/{execution_id}/resume/", {"decision": "approve"})

    assert (resumed.status_code, resumed.json["status"]) == (200, "running")
    work()
    assert admin.get(f"/executions/{execution_id}/").json["final_output"] == "Hello Ada"
    assert admin.post(f"/executions/{execution_id}/resume/").json["code"] == "wrong_state"


def test_a_person_refuses(admin: Caller, greeting: str, work: Work) -> None:
    make(admin, "asking", held())
    execution_id = admin.post("/workflows/asking/execute/").json["execution_id"]
    work()

    refused = admin.post(f"/executions/{execution_id}/resume/", {"node_id": "greet", "decision": "reject"})

    assert (refused.status_code, refused.json["status"]) == (200, "cancelled")
    assert admin.post(f"/executions/{execution_id}/resume/", {"decision": "maybe"}).status_code == 422


def test_only_what_has_ended_can_be_deleted(admin: Caller, greeting: str, work: Work) -> None:
    ended = [admin.post(greeting, {"text": "x"}).json["execution_id"] for _ in range(3)]
    work()
    live = admin.post(greeting).json["execution_id"]

    assert admin.delete(f"/executions/{live}/").status_code == 409
    assert admin.post("/executions/batch-delete/", {"execution_ids": [*ended, live]}).status_code == 409
    assert admin.get("/executions/").json["total"] == 4

    assert admin.delete(f"/executions/{ended[0]}/").status_code == 204
    assert admin.post("/executions/batch-delete/", {"execution_ids": ended[1:]}).status_code == 204
    assert [row["execution_id"] for row in admin.get("/executions/").json["items"]] == [live]
    assert admin.post("/executions/batch-delete/", {"execution_ids": ended}).status_code == 404


def test_strangers_find_nothing_and_viewers_change_nothing(
    admin: Caller, stranger: Caller, normal: Caller, greeting: str
) -> None:
    share = {"username": normal.username, "role": "viewer"}
    assert admin.post("/workflows/greeting/collaborators/", share).status_code == 201
    execution_id = admin.post(greeting).json["execution_id"]
    one = f"/executions/{execution_id}/"

    assert stranger.get("/executions/").json["total"] == 0
    for method, path in [("GET", ""), ("DELETE", ""), ("GET", "events/"), ("POST", "cancel/"), ("POST", "resume/")]:
        assert stranger.send(method, one + path).status_code == 404, path
    assert stranger.post(greeting).status_code == 404
    assert stranger.post("/executions/batch-delete/", {"execution_ids": [execution_id]}).status_code == 404

    assert normal.get(one).status_code == 200
    for method, path in [("DELETE", ""), ("POST", "cancel/"), ("POST", "resume/")]:
        assert normal.send(method, one + path).status_code == 403, path
    assert normal.post(greeting).status_code == 403


@pytest.mark.parametrize(
    "execution_id", ["1b671a64-40d5-491e-99b0-da01ff1f3341", "x" * 1000, "%00", "%ff", "\U0001f600"]
)
def test_an_execution_that_is_not_there_is_not_found(admin: Caller, execution_id: str) -> None:
    for path in ("", "events/", "logs/1/"):
        assert admin.get(f"/executions/{execution_id}/{path}").status_code == 404


def test_a_large_output_stands_whole_where_it_is_asked_for(admin: Caller, greeting: str, work: Work) -> None:
    repeat = {"node_id": "long", "component_type": "template", "config": {"template": "{{ 'x' * 400000 }}"}}
    graph = {"nodes": [GREETING["nodes"][0], repeat], "edges": [{"source_node_id": "start", "target_node_id": "long"}]}
    make(admin, "long", graph)
    execution_id = admin.post("/workflows/long/execute/").json["execution_id"]
    work()

    found = admin.get(f"/executions/{execution_id}/").json

    assert len(found["final_output"]) == 400_000
    log = found["logs"][-1]
    assert "$blob" in json.dumps(log["output"])
    whole = admin.get(f"/executions/{execution_id}/logs/{log['id']}/").json
    assert len(whole["output"]["output"]) == 400_000
    assert admin.get(f"/executions/{execution_id}/logs/{log['id'] + 1}/").status_code == 404
    assert admin.get(f"/executions/{execution_id}/logs/{2**70}/").status_code == 404
