"""A product with a node type that misbehaves, and one process for all steps."""

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelit.engine import processes
from tests.nodes.test_plugin import install
from tests.support.product import Product, wait_until

PLUGIN = Path(__file__).parents[1] / "unruly"
ROOT = Path(__file__).parents[2]


@dataclass
class Stage:
    """Where one node runs at a time, and what the story sees of it."""

    product: Product
    note: Path

    def start(self, way: str, **failure: object) -> str:
        """Run the unruly node, and wait until it does what it should not; the id of the execution."""
        self.note.write_text("")
        execution = self.run("unruly", {"way": way, "note": str(self.note), "failure": failure})
        wait_until(lambda: bool(self.noted()), f"the node is {way}", or_else=self.said)
        return execution

    def run(self, component_type: str, config: dict[str, Any]) -> str:
        """Start a workflow of a trigger and one node; the id of the execution."""
        nodes = [
            {"node_id": "start", "component_type": "trigger_manual"},
            {"node_id": "a", "component_type": component_type, "config": config},
        ]
        slug = self.product.call("POST", "/api/v1/workflows/", {"name": "Story"}).body["slug"]
        graph = {"nodes": nodes, "edges": [{"source_node_id": "start", "target_node_id": "a"}]}
        drawn = self.product.call("PUT", f"/api/v1/workflows/{slug}/graph/", graph)
        assert drawn.status == 200, drawn
        begun = self.product.call("POST", f"/api/v1/workflows/{slug}/execute/", {})
        assert begun.status == 202, begun
        found: str = begun.body["execution_id"]
        return found

    def cancel(self, execution: str) -> dict[str, Any]:
        found: dict[str, Any] = self.product.call("POST", f"/api/v1/executions/{execution}/cancel/").body
        return found

    def outcome(self, execution: str) -> dict[str, Any]:
        found: dict[str, Any] = self.product.call("GET", f"/api/v1/executions/{execution}/").body
        return found

    def ended(self, execution: str) -> dict[str, Any]:
        """How it ended; waits for it."""
        live = ("pending", "running", "interrupted")
        wait_until(lambda: self.outcome(execution)["status"] not in live, "it has ended", or_else=self.said)
        return self.outcome(execution)

    def noted(self) -> list[int]:
        """The processes that the node has noted so far."""
        return [int(line) for line in self.note.read_text().split()]

    def attempts(self, execution: str) -> list[tuple[int, str, str | None]]:
        logs = self.outcome(execution)["logs"]
        return [(log["attempt"], log["status"], log["error_code"]) for log in logs if log["node_id"] == "a"]

    def is_free(self) -> float:
        """Wait until the one process runs another step; how many seconds that took."""
        began = time.monotonic()
        assert self.ended(self.run("template", {"template": "free"}))["final_output"] == "free"
        return time.monotonic() - began

    def said(self) -> str:
        return self.product.log("worker-steps")[-4000:]


def is_there(pid: int) -> bool:
    """Whether a process lives, zombies left aside."""
    return bool(fields := processes.stat(pid)) and fields[0] != "Z"


@pytest.fixture(scope="module")
def unruly_product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    site = tmp_path_factory.mktemp("site")
    install(PLUGIN, site)
    with tempfile.TemporaryDirectory(prefix="pl-up-") as folder:
        environ = {
            "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)]),
            "PIPELIT_HTTP_ALLOW": "127.0.0.0/8",
            "PIPELIT_WORKERS": "1",
            "PIPELIT_WEB_WORKERS": "1",
            "PIPELIT_STEP_MEMORY_MB": "512",
        }
        product = Product(Path(folder) / "home", environ=environ)
        try:
            product.start()
            product.set_up()
            yield product
        finally:
            product.stop()


@pytest.fixture
def stage(unruly_product: Product, tmp_path: Path) -> Stage:
    """A running product on which a node of type `unruly` may misbehave."""
    return Stage(unruly_product, tmp_path / "note")
