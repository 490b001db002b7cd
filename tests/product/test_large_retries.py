"""A large execution is run again, and the web server goes on answering meanwhile."""

import time
from typing import Any

import pytest

from tests.support.product import Product, wait_until

pytestmark = pytest.mark.product

ITERATIONS = 10_000
PATIENCE = 300.0


def loop_of(product: Product) -> str:
    """The path of a workflow whose loop has many iterations."""
    nodes = [
        {"node_id": "start", "component_type": "trigger_manual"},
        {
            "node_id": "each",
            "component_type": "loop",
            "config": {"items": f"{{{{ range({ITERATIONS}) | list }}}}", "max_iterations": ITERATIONS},
        },
        {"node_id": "twice", "component_type": "template", "config": {"template": "{{ loop.item * 2 }}"}},
        {"node_id": "all", "component_type": "template", "config": {"template": "{{ each.results | sum }}"}},
    ]
    edges = [
        {"source_node_id": "start", "target_node_id": "each"},
        {"source_node_id": "each", "target_node_id": "twice", "edge_label": "loop_body"},
        {"source_node_id": "twice", "target_node_id": "each", "edge_label": "loop_return"},
        {"source_node_id": "each", "target_node_id": "all"},
    ]
    made = product.call("POST", "/api/v1/workflows/", {"name": "Large", "placement": "local"})
    assert made.status == 201, made
    path = f"/api/v1/workflows/{made.body['slug']}/"
    drawn = product.call("PUT", f"{path}graph/", {"nodes": nodes, "edges": edges})
    assert drawn.status == 200, drawn
    return path


def row_of(product: Product, execution_id: str) -> dict[str, Any]:
    """An execution without its logs."""
    found = product.call("GET", f"/api/v1/executions/?search={execution_id}")
    assert found.status == 200, found
    row: dict[str, Any] = found.body["items"][0]
    return row


def test_the_web_server_answers_while_thousands_of_steps_are_copied(product: Product) -> None:
    begun = product.call("POST", f"{loop_of(product)}execute/", {})
    first = begun.body["execution_id"]
    wait_until(lambda: row_of(product, first)["status"] == "completed", "it has ended", seconds=PATIENCE)

    asked = time.monotonic()
    answer = product.call(
        "POST", f"/api/v1/executions/{first}/retry/", {"from_node_id": "twice", "scope": f"each:{ITERATIONS - 1}"}
    )
    accepted = time.monotonic() - asked
    assert answer.status == 202, answer
    again = answer.body["execution_id"]
    waits = [accepted]

    def has_ended() -> bool:
        began = time.monotonic()
        row = row_of(product, again)
        waits.append(time.monotonic() - began)
        return bool(row["status"] == "completed")

    wait_until(has_ended, "it was copied and has ended", seconds=PATIENCE)
    whole = product.call("GET", f"/api/v1/executions/{again}/").body

    assert whole["retried_from_step"] == f"twice@each:{ITERATIONS - 1}"
    assert whole["final_output"] == ITERATIONS * (ITERATIONS - 1)
    print(f"accepted after {accepted:.3f} s, {len(waits)} answers, the slowest after {max(waits):.3f} s")  # noqa: T201 (for who reads the measurements)
