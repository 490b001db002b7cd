"""A whole graph is written at once or not at all, read as a document, and read quickly however large it is."""

from copy import deepcopy
from typing import Any

from flask import Flask
from sqlalchemy import event

from pipelit.extensions import db
from tests.api.shop import HOOK, JOIN, SHOP, SORT, VIP, add, shop, workflow
from tests.support.callers import Caller

SECRET = {"path": "orders", "auth": "secret", "secret": "correct horse battery"}

NO_GRAPHS: list[tuple[dict[str, Any], str]] = [
    ({"nodes": []}, "edges"),
    ({"nodes": {}, "edges": []}, "nodes"),
    ({"nodes": [5], "edges": []}, "nodes.0"),
    ({"nodes": [{"component_type": "merge", "node_id": "no-dash"}], "edges": []}, "nodes.0.node_id"),
    ({"nodes": [{"component_type": "merge", "id": 3}], "edges": []}, "nodes.0.id"),
    ({"nodes": [], "edges": [{"source_node_id": "a"}]}, "edges.0.target_node_id"),
    ({"nodes": [], "edges": [], "version": 1}, "version"),
    ({"nodes": [], "edges": [], "workflow": {"is_public": True}}, "workflow.is_public"),
    ({"nodes": [], "edges": [], "workflow": {"slug": "other"}}, "workflow.slug"),
    ({"nodes": [{"component_type": "merge"}] * 2001, "edges": []}, "nodes"),
]


def changed(**parts: Any) -> dict[str, Any]:
    """The shop with something else in it."""
    return {**deepcopy(SHOP), **parts}


def test_what_is_read_can_be_written_back_and_changes_nothing(normal: Caller) -> None:
    slug = shop(normal, tags=["shop"])
    before = normal.get(f"/workflows/{slug}/").json
    document = normal.get(f"/workflows/{slug}/graph/").json
    assert (document["workflow"]["name"], document["workflow"]["tags"]) == ("Shop", ["shop"])
    assert "id" not in document["nodes"][0]

    answer = normal.put(f"/workflows/{slug}/graph/", document)

    assert answer.status_code == 200
    assert answer.json["nodes"] == before["nodes"]
    assert answer.json["edges"] == before["edges"]
    assert answer.json["revision"] == before["revision"] + 1
    assert normal.get(f"/workflows/{slug}/graph/").json == document


def test_nodes_that_stay_keep_their_rows_and_the_rest_is_exchanged(normal: Caller) -> None:
    slug = shop(normal)
    before = {node["node_id"]: node["id"] for node in normal.get(f"/workflows/{slug}/nodes/").json}
    kept_edge = normal.get(f"/workflows/{slug}/edges/").json[0]
    sort = {**SORT, "config": {"rules": [VIP], "default": "other"}}
    graph = {
        "nodes": [HOOK, sort, {"component_type": "merge"}, {"node_id": "greeting", "component_type": "merge"}],
        "edges": [
            {"source_node_id": "hook", "target_node_id": "greeting", "priority": 4},
            {
                "source_node_id": "sort",
                "target_node_id": "merge_1",
                "edge_type": "conditional",
                "condition_value": "other",
            },
        ],
    }

    answer = normal.put(f"/workflows/{slug}/graph/", graph)

    assert answer.status_code == 200, answer.json
    after = {node["node_id"]: node for node in answer.json["nodes"]}
    assert after.keys() == {"hook", "sort", "merge_1", "greeting"}
    assert {name: after[name]["id"] for name in ("hook", "sort", "greeting")} == {
        name: before[name] for name in ("hook", "sort", "greeting")
    }
    assert (after["greeting"]["component_type"], after["greeting"]["config"]) == ("merge", {})
    assert (answer.json["edges"][0]["id"], answer.json["edges"][0]["priority"]) == (kept_edge["id"], 4)
    assert normal.get(f"/workflows/{slug}/").json["nodes"] == answer.json["nodes"]


def test_every_problem_is_reported_at_once_and_nothing_is_written(normal: Caller) -> None:
    slug = shop(normal)
    before = normal.get(f"/workflows/{slug}/").json
    graph = {
        "nodes": [
            {**HOOK, "config": {"path": "/"}},
            {**SORT, "config": {"rules": [{**VIP, "operator": "near"}]}},
            {"node_id": "twice", "component_type": "merge"},
            {"node_id": "twice", "component_type": "merge"},
            {"node_id": "what", "component_type": "agnt"},
            {"node_id": "sub", "component_type": "merge", "subworkflow_id": 999},
        ],
        "edges": [
            {"source_node_id": "hook", "target_node_id": "nowhere"},
            {"source_node_id": "sort", "target_node_id": "hook"},
            {"source_node_id": "hook", "target_node_id": "sort"},
            {"source_node_id": "hook", "target_node_id": "sort"},
            {"source_node_id": "sort", "target_node_id": "sub", "edge_type": "conditional", "condition_value": "x"},
            {"source_node_id": "sub", "target_node_id": "sort"},
        ],
    }

    answer = normal.put(f"/workflows/{slug}/graph/", graph)

    assert answer.status_code == 422
    assert answer.json["errors"].keys() >= {
        "nodes.0.config.path",
        "nodes.1.config.rules.0.operator",
        "nodes.2.node_id",
        "nodes.3.node_id",
        "nodes.4.component_type",
        "nodes.5.subworkflow_id",
        "edges.0.target_node_id",
        "edges.1.target_node_id",
        "edges.3",
        "edges.4.condition_value",
        "edges.5.target_node_id",
    }
    assert normal.get(f"/workflows/{slug}/").json == before


def test_what_is_not_a_graph_is_refused_by_path(normal: Caller) -> None:
    slug = workflow(normal)

    for graph, field in NO_GRAPHS:
        answer = normal.put(f"/workflows/{slug}/graph/", graph)
        assert answer.status_code == 422
        assert field in answer.json["errors"], answer.json


def test_a_circle_is_refused_where_it_closes_unless_a_loop_closes_it(normal: Caller) -> None:
    slug = workflow(normal)
    nodes = [HOOK, JOIN, {"node_id": "each", "component_type": "loop", "config": {"items": "{{ hook.body }}"}}]
    loop = [
        {"source_node_id": "hook", "target_node_id": "each"},
        {"source_node_id": "each", "target_node_id": "join", "edge_label": "loop_body"},
        {"source_node_id": "join", "target_node_id": "each"},
    ]

    refused = normal.put(f"/workflows/{slug}/graph/", {"nodes": nodes, "edges": loop})
    assert "each → join → each" in refused.json["errors"]["edges.2.target_node_id"][0]

    loop[2]["edge_label"] = "loop_return"
    assert normal.put(f"/workflows/{slug}/graph/", {"nodes": nodes, "edges": loop}).status_code == 200


def test_secrets_stay_at_home_and_survive_a_graph_that_does_not_mention_them(normal: Caller) -> None:
    slug = workflow(normal)
    add(normal, slug, {**HOOK, "config": SECRET})
    document = normal.get(f"/workflows/{slug}/graph/")
    assert "battery" not in document.text
    assert "secret" not in document.json["nodes"][0]["config"]

    normal.put(f"/workflows/{slug}/graph/", document.json)
    assert normal.get(f"/workflows/{slug}/nodes/hook/").json["config"]["secret"] == "••••tery"

    other = workflow(normal, "Elsewhere", is_active=False)
    copied = {name: document.json[name] for name in ("nodes", "edges")}
    assert normal.put(f"/workflows/{other}/graph/", copied).status_code == 200
    said = normal.post(f"/workflows/{other}/validate/").json
    assert "config_invalid" in {problem["code"] for problem in said["errors"]}
    assert normal.patch(f"/workflows/{other}/nodes/hook/", {"label": "Later"}).status_code == 200
    assert normal.patch(f"/workflows/{other}/nodes/hook/", {"config": {"secret": "a good secret"}}).status_code == 200


def test_a_document_brings_what_it_says_of_the_workflow(normal: Caller) -> None:
    slug = workflow(normal)
    about = {"name": "Renamed", "tags": ["new"], "slug": slug}

    answer = normal.put(f"/workflows/{slug}/graph/", changed(workflow=about))

    assert (answer.json["name"], answer.json["tags"], answer.json["slug"]) == ("Renamed", ["new"], slug)


def test_paths_of_webhooks_may_change_places_but_not_be_the_same(normal: Caller) -> None:
    slug = workflow(normal)
    hooks = [{**HOOK, "node_id": name, "config": {"path": name}} for name in ("a", "b")]
    normal.put(f"/workflows/{slug}/graph/", {"nodes": hooks, "edges": []})

    swapped = [{**hooks[0], "config": {"path": "b"}}, {**hooks[1], "config": {"path": "a"}}]
    assert normal.put(f"/workflows/{slug}/graph/", {"nodes": swapped, "edges": []}).status_code == 200

    same = [{**hooks[0], "config": {"path": "c"}}, {**hooks[1], "config": {"path": "c"}}]
    assert normal.put(f"/workflows/{slug}/graph/", {"nodes": same, "edges": []}).status_code == 409
    assert [node["config"]["path"] for node in normal.get(f"/workflows/{slug}/nodes/").json] == ["b", "a"]


def test_reading_takes_as_many_queries_for_a_thousand_nodes_as_for_ten(app: Flask, normal: Caller) -> None:
    small, large = workflow(normal, "Small"), workflow(normal, "Large")
    for slug, number in ((small, 10), (large, 1000)):
        nodes = [{"node_id": f"n{at}", "component_type": "merge"} for at in range(number)]
        edges = [{"source_node_id": f"n{at}", "target_node_id": f"n{at + 1}"} for at in range(number - 1)]
        assert normal.put(f"/workflows/{slug}/graph/", {"nodes": nodes, "edges": edges}).status_code == 200

    counts = [_queries(app, normal, f"/workflows/{slug}/") for slug in (small, large)]

    # Configurations come in portions of 500.
    assert counts[1] <= counts[0] + 1
    assert counts[0] <= 8
    assert _queries(app, normal, "/workflows/") <= 8


def _queries(app: Flask, caller: Caller, path: str) -> int:
    """How many queries the database gets for a request."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("SELECT"):
            statements.append(statement)

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    assert caller.get(path).status_code == 200
    event.remove(engine, "before_cursor_execute", note)
    return len(statements)
