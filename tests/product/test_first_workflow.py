"""The page for newcomers holds: what it says to send is sent, and what it promises comes."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websocket

from tests.integrations.web import plain, serving
from tests.support.product import Product, wait_until

pytestmark = pytest.mark.product

PAGE = Path(__file__).parents[2] / "docs" / "first-workflow.md"


@pytest.fixture
def orders(product: Product) -> Iterator[str]:
    """The page's workflow, calling a server of the test; the path of its webhook."""
    with serving(plain) as web:
        text = re.search(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        assert text is not None
        graph = json.loads(text.group(1).replace("9911", str(web.port)))
        product.call("DELETE", "/api/v1/workflows/orders/?force=true")
        assert product.call("POST", "/api/v1/workflows/", {"name": "Orders"}).status == 201
        assert product.call("PUT", "/api/v1/workflows/orders/graph/", graph).status == 200
        yield "/api/v1/webhooks/orders"


def test_the_webhook_is_answered_by_the_last_node_and_every_step_is_on_record(product: Product, orders: str) -> None:
    assert product.call("POST", "/api/v1/workflows/orders/validate/").body == {"valid": True, "errors": []}

    answer = product.call("POST", orders, {"name": "Ada", "vip": True})

    assert (answer.status, answer.body) == (200, "200: Hello Ada, red carpet")
    newest = product.call("GET", "/api/v1/executions/?limit=1").body["items"][0]["execution_id"]
    path = f"/api/v1/executions/{newest}/"
    wait_until(lambda: product.call("GET", path).body["status"] == "completed", "the final row")
    logs: list[dict[str, Any]] = product.call("GET", path).body["logs"]
    assert {log["node_id"]: log["status"] for log in logs} == {
        "hook": "success",
        "greet": "success",
        "choose": "success",
        "carpet": "success",
        "plain": "skipped",
        "join": "success",
        "call": "success",
        "say": "success",
    }
    ran = [log for log in logs if log["status"] == "success" and log["node_id"] != "hook"]
    assert all(log["input"] is not None and log["output"] and log["duration_ms"] >= 0 for log in ran)


def test_a_client_watches_it_in_order(product: Product, orders: str) -> None:
    socket = websocket.create_connection(f"ws://127.0.0.1:{product.port}/ws/?token={product.key}", timeout=60)
    socket.send(json.dumps({"type": "subscribe", "channel": "workflow:orders"}))
    assert json.loads(socket.recv())["type"] == "subscribed"

    product.call("POST", orders, {"name": "Bob", "vip": False})

    events = []
    while not events or events[-1]["type"] != "execution_completed":
        events.append(json.loads(socket.recv()))
    socket.close()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["type"] == "execution_started"
    statuses = [(e["data"]["node_id"], e["data"]["status"]) for e in events if e["type"] == "node_status"]
    assert statuses[:3] == [("hook", "success"), ("greet", "running"), ("greet", "success")]
    assert ("carpet", "skipped") in statuses
    assert statuses[-1] == ("say", "success")


def test_editing_the_workflow_while_it_runs_does_not_change_the_run(product: Product, orders: str) -> None:
    node = "/api/v1/workflows/orders/nodes/say/"
    assert product.call("PATCH", node, {"interrupt_before": True}).status == 200
    payload = {"body": {"name": "Cy", "vip": False}}
    started = product.call("POST", "/api/v1/workflows/orders/execute/", {"payload": payload}).body
    execution = f"/api/v1/executions/{started['execution_id']}/"
    wait_until(lambda: product.call("GET", execution).body["status"] == "interrupted", "the question")

    assert product.call("PATCH", node, {"config": {"template": "changed"}}).status == 200
    assert product.call("POST", f"{execution}resume/", {"decision": "approve"}).status == 200

    wait_until(lambda: product.call("GET", execution).body["status"] == "completed", "the end")
    assert product.call("GET", execution).body["final_output"] == "200: Hello Cy, welcome"
