"""What the stories of workflows have in common: a small shop, drawn through the API."""

from typing import Any

from tests.support.callers import Caller

HOOK = {"node_id": "hook", "component_type": "trigger_webhook", "config": {"path": "orders"}}
GREETING = {
    "node_id": "greeting",
    "component_type": "template",
    "config": {"template": "Hello {{ hook.payload.name }}"},
}
VIP = {"field": "hook.payload.vip", "operator": "is_true", "route": "vip"}
SORT = {"node_id": "sort", "component_type": "switch", "config": {"rules": [VIP]}}
RED = {"node_id": "red", "component_type": "template", "config": {"template": "{{ greeting.output }}, welcome back"}}
PLAIN = {"node_id": "plain", "component_type": "template", "config": {"template": "{{ greeting.output }}"}}
JOIN = {"node_id": "join", "component_type": "merge", "config": {}}

SHOP = {
    "nodes": [HOOK, GREETING, SORT, RED, PLAIN, JOIN],
    "edges": [
        {"source_node_id": "hook", "target_node_id": "greeting"},
        {"source_node_id": "greeting", "target_node_id": "sort"},
        {"source_node_id": "sort", "target_node_id": "red", "edge_type": "conditional", "condition_value": "vip"},
        {"source_node_id": "sort", "target_node_id": "plain", "edge_type": "conditional", "condition_value": "default"},
        {"source_node_id": "red", "target_node_id": "join"},
        {"source_node_id": "plain", "target_node_id": "join"},
    ],
}


def workflow(caller: Caller, name: str = "Shop", **more: Any) -> str:
    """Make an empty workflow; its slug."""
    answer = caller.post("/workflows/", {"name": name, **more})
    assert answer.status_code == 201, answer.json
    return str(answer.json["slug"])


def shop(caller: Caller, name: str = "Shop", **more: Any) -> str:
    """Make a workflow of webhook, template, switch, two branches and merge; its slug."""
    slug = workflow(caller, name, **more)
    answer = caller.put(f"/workflows/{slug}/graph/", SHOP)
    assert answer.status_code == 200, answer.json
    return slug


def add(caller: Caller, slug: str, *nodes: dict[str, Any]) -> None:
    """Add nodes, one by one."""
    for node in nodes:
        answer = caller.post(f"/workflows/{slug}/nodes/", node)
        assert answer.status_code == 201, answer.json


def edge(caller: Caller, slug: str, source: str, target: str, **more: Any) -> Any:
    """Try to add an edge; the whole answer."""
    return caller.post(f"/workflows/{slug}/edges/", {"source_node_id": source, "target_node_id": target, **more})
