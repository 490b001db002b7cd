"""Workflows as files."""

import json
from pathlib import Path

from tests.commands.conftest import Command

WORKFLOW = {
    "workflow": {"name": "Greeting", "slug": "greeting"},
    "nodes": [
        {"node_id": "start", "component_type": "trigger_manual"},
        {"node_id": "hello", "component_type": "template", "config": {"template": "Hello {{ start.text }}"}},
    ],
    "edges": [{"source_node_id": "start", "target_node_id": "hello"}],
}


def write(folder: Path, document: object) -> str:
    file = folder / "workflow.json"
    file.write_text(json.dumps(document))
    return str(file)


def test_what_was_exported_can_be_imported_again_beside_it(pipelit: Command, tmp_path: Path):
    assert pipelit("import", write(tmp_path, WORKFLOW)).stdout == "Imported as greeting.\n"

    exported = json.loads(pipelit("export", "greeting").stdout)
    second = pipelit("import", write(tmp_path, exported)).stdout.split()[-1].rstrip(".")

    assert second != "greeting"
    again = json.loads(pipelit("export", second).stdout)
    assert [again["nodes"], again["edges"]] == [exported["nodes"], exported["edges"]]


def test_everything_that_is_wrong_with_a_file_is_said_and_nothing_is_made(pipelit: Command, tmp_path: Path):
    broken = {**WORKFLOW, "nodes": [{"node_id": "a"}, {"node_id": "b"}]}

    refused = pipelit("import", write(tmp_path, broken))

    assert refused.returncode == 2
    assert "nodes.0.component_type" in refused.stderr
    assert "nodes.1.component_type" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert pipelit("export", "greeting").returncode == 2


def test_a_file_that_is_no_workflow_is_refused(pipelit: Command, tmp_path: Path):
    (tmp_path / "text.json").write_text("{not json")

    for file in (str(tmp_path / "text.json"), write(tmp_path, ["a", "list"])):
        refused = pipelit("import", file)

        assert refused.returncode == 2
        assert refused.stderr.startswith(f"pipelit: {file} is not ")


def test_a_workflow_that_is_not_there_is_named(pipelit: Command):
    refused = pipelit("export", "nowhere")

    assert refused.returncode == 2
    assert refused.stderr.startswith("pipelit: ")
    assert "nowhere" in refused.stderr
