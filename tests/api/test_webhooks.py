"""Strangers call addresses that start workflows, and get what the webhook's node promises them."""

import base64
import hashlib
import hmac
import io
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from pipelit.api.live import EXTENSION, Live
from tests.api.conftest import Work, working
from tests.support.callers import Caller

SECRET = "s3cret-of-the-shop"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def live(app: Flask) -> Any:
    live: Live = app.extensions[EXTENSION]
    live.limits = replace(live.limits, webhook=0.5)
    yield live
    live.hub.stop()


def open_shop(
    admin: Caller, node: dict[str, Any], then: dict[str, Any] | None = None, slug: str = "shop", **about: Any
) -> None:
    """A workflow of a webhook at `orders` and one step."""
    assert admin.post("/workflows/", {"name": slug.title(), "slug": slug, **about}).status_code == 201
    step = {"component_type": "template", "config": {"template": "{{ hook.body }}"}, **(then or {})}
    graph = {
        "nodes": [
            {"node_id": "hook", "component_type": "trigger_webhook", "config": {"path": "orders", **node}},
            {"node_id": "step", **step},
        ],
        "edges": [{"source_node_id": "hook", "target_node_id": "step"}],
    }
    answer = admin.put(f"/workflows/{slug}/graph/", graph)
    assert answer.status_code == 200, answer.text


def output_of(admin: Caller, answer: TestResponse) -> dict[str, Any]:
    """What the webhook gave to the execution that an answer names."""
    logs = admin.get(f"/executions/{answer.json['execution_id']}/").json["logs"]
    return next(log["output"] for log in logs if log["node_id"] == "hook")


def test_a_call_starts_the_workflow_and_is_answered_at_once(admin: Caller, anonymous: Caller, work: Work) -> None:
    open_shop(admin, {})

    answer = anonymous.post("/webhooks/orders?ref=7&tag=a&tag=b", {"name": "Ada"}, headers={"X-Shop": "Berlin"})

    assert (answer.status_code, set(answer.json)) == (202, {"execution_id", "status"})
    work()
    execution = admin.get(f"/executions/{answer.json['execution_id']}/").json
    assert (execution["status"], execution["trigger"], execution["final_output"]) == (
        "completed",
        "webhook",
        {"name": "Ada"},
    )
    given = output_of(admin, answer)
    assert given["body"] == given["payload"] == {"name": "Ada"}
    assert given["query"] == {"ref": "7", "tag": ["a", "b"]}
    assert (given["method"], given["headers"]["x-shop"]) == ("POST", "Berlin")


def test_the_last_output_is_the_answer_if_the_webhook_says_so(
    admin: Caller, anonymous: Caller, app: Flask, live: Live
) -> None:
    live.limits = replace(live.limits, webhook=20)
    open_shop(admin, {"respond": "last"}, {"config": {"template": "Hello {{ hook.body.name }}"}})

    with working(app):
        answer = anonymous.post("/webhooks/orders/", {"name": "Ada"})

    assert (answer.status_code, answer.json) == (200, "Hello Ada")


def test_an_answer_of_any_size_arrives_whole(admin: Caller, anonymous: Caller, app: Flask, live: Live) -> None:
    live.limits = replace(live.limits, webhook=20)
    open_shop(admin, {"respond": "last"}, {"config": {"template": "{{ 'x' * hook.body.size }}"}})

    with working(app):
        for size in (10, 30_000, 500_000):
            assert len(anonymous.post("/webhooks/orders", {"size": size}).json) == size


def test_one_that_is_dropped_is_told_to_try_again(admin: Caller, anonymous: Caller, live: Live) -> None:
    live.limits = replace(live.limits, webhook=20)
    open_shop(admin, {"respond": "last"}, max_concurrent=1, overlap="drop")
    address = "/workflows/shop/execute/"
    assert admin.post(address).status_code == 202

    answer = anonymous.post("/webhooks/orders", {"name": "Ada"})

    assert (answer.status_code, answer.json["code"]) == (429, "dropped")
    assert int(answer.headers["Retry-After"]) >= 1
    found = admin.get(f"/executions/{answer.json['execution_id']}/").json
    assert (found["status"], found["error_code"]) == ("cancelled", "dropped")


def test_a_failure_says_that_it_failed_and_nothing_more(
    admin: Caller, anonymous: Caller, app: Flask, live: Live, work: Work
) -> None:
    live.limits = replace(live.limits, webhook=20)
    open_shop(admin, {"respond": "last"}, {"config": {"template": "{{ hook.body.missing }}"}})

    with working(app):
        answer = anonymous.post("/webhooks/orders", {"name": "Ada"})

    assert (answer.status_code, answer.json["code"]) == (500, "execution_failed")
    assert "missing" not in answer.text
    work()
    found = admin.get(f"/executions/{answer.json['execution_id']}/").json
    assert found["status"] == "failed"


def test_an_answer_that_takes_too_long_is_replaced_by_the_id(
    admin: Caller, anonymous: Caller, live: Live, work: Work
) -> None:
    open_shop(admin, {"respond": "last"})

    answer = anonymous.post("/webhooks/orders", {"name": "Ada"})

    assert (answer.status_code, set(answer.json)) == (202, {"execution_id", "status"})
    work()
    assert admin.get(f"/executions/{answer.json['execution_id']}/").json["status"] == "completed"


def test_only_the_methods_of_the_webhook_are_taken(admin: Caller, anonymous: Caller) -> None:
    open_shop(admin, {"methods": ["GET", "PUT"]})

    refused = anonymous.post("/webhooks/orders", {})

    assert (refused.status_code, set(refused.headers["Allow"].split(", "))) == (405, {"GET", "PUT"})
    assert anonymous.get("/webhooks/orders").status_code == 202
    assert anonymous.put("/webhooks/orders", {}).status_code == 202
    for method in ("DELETE", "PATCH", "HEAD", "OPTIONS"):
        assert anonymous.send(method, "/webhooks/orders").status_code == 405, method
    assert admin.get("/executions/").json["total"] == 2


@pytest.mark.parametrize("path", ["nobody", "orders/more", "ORDERS", "..", "%00", "a//b", "x" * 5000])
def test_an_address_of_no_webhook_is_not_found(admin: Caller, anonymous: Caller, path: str) -> None:
    open_shop(admin, {})

    assert anonymous.post(f"/webhooks/{path}", {}).status_code == 404


def test_a_workflow_that_is_switched_off_or_gone_does_not_answer(admin: Caller, anonymous: Caller) -> None:
    open_shop(admin, {})
    assert admin.patch("/workflows/shop/", {"is_active": False}).status_code == 200
    assert anonymous.post("/webhooks/orders", {}).status_code == 404
    assert admin.patch("/workflows/shop/", {"is_active": True}).status_code == 200
    assert anonymous.post("/webhooks/orders", {}).status_code == 202

    assert admin.delete("/workflows/shop/?force=true").status_code == 204

    assert anonymous.post("/webhooks/orders", {}).status_code == 404


def test_a_change_of_a_webhook_holds_for_the_very_next_call(admin: Caller, anonymous: Caller) -> None:
    open_shop(admin, {"auth": "secret", "secret": SECRET})

    def call(path: str, secret: str) -> int:
        return anonymous.post(f"/webhooks/{path}", {}, headers={"X-Webhook-Secret": secret}).status_code

    def change(**config: Any) -> None:
        assert admin.patch("/workflows/shop/nodes/hook/", {"config": config}).status_code == 200

    assert [call("orders", SECRET), call("orders", "new")] == [202, 401]
    change(path="orders", auth="secret", secret="new")
    assert [call("orders", SECRET), call("orders", "new")] == [401, 202]
    change(path="elsewhere", auth="none")
    assert [call("orders", "new"), call("elsewhere", "")] == [404, 202]
    change(path="elsewhere", auth="none", methods=["GET"])
    assert call("elsewhere", "") == 405


def test_a_change_of_what_follows_a_webhook_holds_for_the_very_next_call(
    admin: Caller, anonymous: Caller, app: Flask, live: Live
) -> None:
    live.limits = replace(live.limits, webhook=20)
    open_shop(admin, {"respond": "last"})

    with working(app):
        answers = [anonymous.post("/webhooks/orders", "first").json]
        assert admin.patch("/workflows/shop/nodes/step/", {"config": {"template": "second"}}).status_code == 200
        answers.append(anonymous.post("/webhooks/orders", "first").json)

    assert answers == ["first", "second"]


def test_a_secret_opens_the_door(admin: Caller, anonymous: Caller, work: Work) -> None:
    open_shop(admin, {"auth": "secret", "secret": SECRET})

    for headers in ({}, {"X-Webhook-Secret": "wrong"}, {"X-Webhook-Secret": ""}, {"Authorization": "Bearer wrong"}):
        refused = anonymous.post("/webhooks/orders", {}, headers=headers)
        assert (refused.status_code, "WWW-Authenticate" in refused.headers) == (401, True)
        assert SECRET not in refused.text
    assert admin.get("/executions/").json["total"] == 0

    for headers in ({"X-Webhook-Secret": SECRET}, {"Authorization": f"Bearer {SECRET}"}):
        answer = anonymous.post("/webhooks/orders", {}, headers=headers)
        assert answer.status_code == 202
        work()
        assert SECRET not in admin.get(f"/executions/{answer.json['execution_id']}/").text


def test_a_signature_opens_the_door(admin: Caller, anonymous: Caller, work: Work) -> None:
    open_shop(admin, {"auth": "hmac", "secret": SECRET, "timestamp_header": "X-Time"})
    body = b'{"name": "Ada"}'

    def signed(stamp: int, raw: bytes = body, secret: str = SECRET) -> dict[str, str]:
        digest = hmac.new(secret.encode(), f"{stamp}.".encode() + raw, hashlib.sha256).hexdigest()
        return {**JSON, "X-Time": str(stamp), "X-Hub-Signature-256": f"sha256={digest}"}

    def call(headers: dict[str, str], raw: bytes = body) -> TestResponse:
        return anonymous.send("POST", "/webhooks/orders", data=raw, headers=headers)

    present = int(time.time())
    for headers in (
        JSON,
        signed(present - 1000),
        signed(present + 1000),
        signed(present, secret="another"),
        signed(present) | {"X-Time": str(present + 1)},
        signed(present) | {"X-Hub-Signature-256": "sha256=" + "0" * 64},
        signed(present) | {"X-Hub-Signature-256": "\xff"},
    ):
        assert call(headers).status_code == 401, headers
    assert call(signed(present), raw=body + b" ").status_code == 401
    assert admin.get("/executions/").json["total"] == 0

    answer = call(signed(present))

    assert answer.status_code == 202
    work()
    assert output_of(admin, answer)["body"] == {"name": "Ada"}


@pytest.mark.parametrize(
    ("content_type", "raw", "body"),
    [
        ("application/json", b'{"a": [1, null, "\xc3\xa9"]}', {"a": [1, None, "é"]}),
        ("application/json; charset=utf-8", b'"text"', "text"),
        ("application/cloudevents+json", b"[1]", [1]),
        ("application/json", b"", None),
        ("application/x-www-form-urlencoded", b"a=1&b=x+y&b=%C3%A9", {"a": "1", "b": ["x y", "é"]}),
        ("text/plain", "grüß\x00 dich".encode(), "grüß\x00 dich"),
        ("text/csv; charset=latin-1", "ü;1".encode("latin-1"), "ü;1"),
        ("text/plain; charset=klingon", b"hi", "hi"),
        ("application/pdf", b"\x00\xff", {"base64": "AP8=", "content_type": "application/pdf"}),
        ("", b"\x01", {"base64": "AQ==", "content_type": "application/octet-stream"}),
    ],
)
def test_a_body_arrives_as_what_it_is(
    admin: Caller, anonymous: Caller, work: Work, content_type: str, raw: bytes, body: object
) -> None:
    open_shop(admin, {})

    answer = anonymous.send("POST", "/webhooks/orders", data=raw, headers={"Content-Type": content_type})

    assert answer.status_code == 202, answer.text
    work()
    assert output_of(admin, answer)["body"] == body


def test_a_form_with_files_arrives_with_their_content(admin: Caller, anonymous: Caller, work: Work) -> None:
    open_shop(admin, {})

    form = {"name": "Ada", "photo": (io.BytesIO(b"\x89PNG"), "../../me.png", "image/png")}
    answer = anonymous.send("POST", "/webhooks/orders", data=form)

    assert answer.status_code == 202
    work()
    photo = {"filename": "../../me.png", "base64": base64.b64encode(b"\x89PNG").decode(), "content_type": "image/png"}
    assert output_of(admin, answer)["body"] == {"name": "Ada", "photo": photo}


@pytest.mark.parametrize("raw", [b"{", b'{"a": NaN}', b'"\xff"', b"[" * 100_000, b"1e999", b'"\\ud800"', b"9" * 5000])
def test_a_body_that_is_not_what_it_says_is_refused(admin: Caller, anonymous: Caller, raw: bytes) -> None:
    open_shop(admin, {})

    refused = anonymous.send("POST", "/webhooks/orders", data=raw, headers=JSON)

    assert (refused.status_code, refused.json["code"]) == (422, "invalid")
    assert admin.get("/executions/").json["total"] == 0


def test_a_body_that_is_too_large_is_refused(admin: Caller, anonymous: Caller) -> None:
    open_shop(admin, {})

    assert anonymous.send("POST", "/webhooks/orders", data=b"x" * 10_000_000).status_code == 413


def test_a_delivery_that_is_sent_twice_runs_once(admin: Caller, anonymous: Caller) -> None:
    open_shop(admin, {"auth": "secret", "secret": SECRET})
    headers = {"Idempotency-Key": "delivery-1", "X-Webhook-Secret": SECRET}

    first, second = (anonymous.post("/webhooks/orders", {"n": 1}, headers=headers) for _ in range(2))

    assert first.json == second.json
    assert second.headers["Idempotent-Replayed"] == "true"
    assert admin.get("/executions/").json["total"] == 1
    assert anonymous.post("/webhooks/orders", {"n": 2}, headers=headers).status_code == 422
    assert anonymous.post("/webhooks/orders", {"n": 1}, headers={"Idempotency-Key": "delivery-1"}).status_code == 401


def test_a_workflow_that_cannot_run_does_not_tell_strangers_why(admin: Caller, anonymous: Caller) -> None:
    open_shop(admin, {}, {"config": {"template": "{{ nobody.output }}"}})

    headers = {"Idempotency-Key": "again"}

    refused, again = (anonymous.post("/webhooks/orders", {}, headers=headers) for _ in range(2))

    assert (refused.status_code, refused.json["code"]) == (503, "unavailable")
    assert again.json == refused.json
    assert "nobody" not in refused.text
    assert json.loads(refused.text).keys() == {"type", "title", "status", "code", "detail"}


def test_a_guarded_webhook_can_be_started_by_hand(admin: Caller, work: Work) -> None:
    open_shop(admin, {"auth": "secret", "secret": SECRET})

    started = admin.post("/workflows/shop/execute/", {"payload": {"name": "Ada"}})

    assert started.status_code == 202, started.text
    work()
    assert admin.get(f"/executions/{started.json['execution_id']}/").json["status"] == "completed"
