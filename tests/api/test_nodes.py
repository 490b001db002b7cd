"""People add nodes, configure them, rename them and take them away."""

from typing import Any

from tests.api.shop import GREETING, HOOK, SHOP, VIP, add, edge, shop, workflow
from tests.support.callers import Caller

SECRET = {"path": "orders", "auth": "secret", "secret": "correct horse battery"}

NO_NODES: list[tuple[dict[str, Any], str]] = [
    ({}, "component_type"),
    ({"component_type": "switchy"}, "component_type"),
    ({"component_type": "template"}, "config.template"),
    ({"component_type": "template", "config": {"template": 5}}, "config.template"),
    ({"component_type": "template", "config": {"template": "x", "extra": 1}}, "config.extra"),
    ({"component_type": "switch", "config": {"rules": [{**VIP, "operator": "near"}]}}, "config.rules.0.operator"),
    ({"component_type": "switch", "config": []}, "config"),
    ({"component_type": "switch", "node_id": "no-dash"}, "node_id"),
    ({"component_type": "switch", "node_id": "trigger"}, "node_id"),
    ({"component_type": "switch", "node_id": "loop"}, "node_id"),
    ({"component_type": "switch", "node_id": "not"}, "node_id"),
    ({"component_type": "switch", "node_id": "a\n"}, "node_id"),
    ({"component_type": "switch", "node_id": "x" * 101}, "node_id"),
    ({"component_type": "switch", "label": " \n "}, "label"),
    ({"component_type": "switch", "position_x": 1.5}, "position_x"),
    ({"component_type": "switch", "position_x": 10**12}, "position_x"),
    ({"component_type": "switch", "is_entry_point": 1}, "is_entry_point"),
    ({"component_type": "switch", "subworkflow_id": 999}, "subworkflow_id"),
    ({"component_type": "switch", "code_block_id": 1}, "code_block_id"),
    ({"component_type": "switch", "id": 5}, "id"),
    ({**HOOK, "config": {"path": "orders", "auth": "secret"}}, "config.secret"),
    ({**HOOK, "config": {**SECRET, "secret": "••••tery"}}, "config.secret"),
    ({**HOOK, "config": {**SECRET, "secret": 12345678}}, "config.secret"),
    ({**HOOK, "config": {"path": "/orders"}}, "config.path"),
]


def test_a_node_is_added_read_changed_and_taken_away(normal: Caller) -> None:
    slug = workflow(normal)
    made = normal.post(f"/workflows/{slug}/nodes/", {**GREETING, "position_x": 40, "label": "Hello"})
    assert made.status_code == 201
    address = f"/workflows/{slug}/nodes/greeting/"
    assert normal.get(address).json == made.json
    assert (made.json["config"], made.json["position_x"], made.json["label"]) == (GREETING["config"], 40, "Hello")

    changed = normal.patch(address, {"label": None, "interrupt_before": True, "config": {"template": "Bye"}})

    assert (changed.json["label"], changed.json["interrupt_before"]) == (None, True)
    assert changed.json["config"] == {"template": "Bye"}
    assert changed.json["id"] == made.json["id"]
    assert normal.delete(address).status_code == 204
    assert normal.get(f"/workflows/{slug}/nodes/").json == []
    assert normal.get(address).status_code == 404


def test_a_node_without_a_name_gets_the_next_free_one_of_its_type(normal: Caller) -> None:
    slug = workflow(normal)
    add(normal, slug, {"component_type": "switch", "node_id": "switch_2"})

    names = [normal.post(f"/workflows/{slug}/nodes/", {"component_type": "switch"}).json["node_id"] for _ in range(2)]

    assert names == ["switch_1", "switch_3"]
    assert (
        normal.post(f"/workflows/{slug}/nodes/", {"component_type": "switch", "node_id": "switch_1"}).status_code == 409
    )


def test_what_is_not_a_node_is_refused_by_field(normal: Caller) -> None:
    slug = workflow(normal)

    for node, field in NO_NODES:
        answer = normal.post(f"/workflows/{slug}/nodes/", node)
        assert (answer.status_code, answer.json["code"]) == (422, "invalid"), node
        assert field in answer.json["errors"], answer.json

    assert normal.get(f"/workflows/{slug}/nodes/").json == []
    assert normal.get(f"/workflows/{slug}/").json["revision"] == 1


def test_an_unknown_type_is_refused_with_the_closest_name(normal: Caller) -> None:
    answer = normal.post(f"/workflows/{workflow(normal)}/nodes/", {"component_type": "switchy"})

    assert "Did you mean 'switch'?" in answer.json["detail"]


def test_a_config_has_a_bottom_and_an_end(normal: Caller) -> None:
    address = f"/workflows/{workflow(normal)}/nodes/"
    deep: Any = "x"
    for _ in range(100):
        deep = [deep]

    for value in (deep, ["x" * 50_000] * 6):
        config = {"fields": {"a": value}}
        answer = normal.post(address, {"component_type": "set_fields", "config": config})
        assert (answer.status_code, list(answer.json["errors"])) == (422, ["config"])


def test_a_change_merges_the_config_setting_by_setting_and_null_takes_one_away(normal: Caller) -> None:
    slug = workflow(normal)
    add(normal, slug, {**HOOK, "config": {"path": "orders", "methods": ["POST", "PUT"], "priority": 3}})

    config = {"methods": ["GET"], "priority": None, "respond": "last"}
    changed = normal.patch(f"/workflows/{slug}/nodes/hook/", {"config": config})

    assert changed.json["config"] == {"path": "orders", "methods": ["GET"], "respond": "last"}
    refused = normal.patch(f"/workflows/{slug}/nodes/hook/", {"config": {"path": None}})
    assert "config.path" in refused.json["errors"]


def test_a_secret_is_shown_masked_kept_when_sent_back_so_and_taken_away_by_null(normal: Caller) -> None:
    slug = workflow(normal)
    address = f"/workflows/{slug}/nodes/hook/"
    add(normal, slug, {**HOOK, "config": SECRET})
    shown = normal.get(address).json["config"]
    assert shown["secret"] == "••••tery"

    assert normal.patch(address, {"config": shown}).json["config"] == shown
    assert normal.patch(address, {"config": {"priority": 1}}).json["config"]["secret"] == "••••tery"
    assert normal.patch(address, {"config": {"secret": "another good secret"}}).json["config"]["secret"] == "••••cret"
    assert normal.patch(address, {"config": {"secret": "••••tery"}}).status_code == 422
    assert normal.patch(address, {"config": {"secret": None}}).status_code == 422
    gone = normal.patch(address, {"config": {"secret": None, "auth": "none"}})
    assert "secret" not in gone.json["config"]
    assert "battery" not in normal.get(f"/workflows/{slug}/").text


def test_a_new_name_is_put_on_the_edges(normal: Caller) -> None:
    slug = shop(normal)

    renamed = normal.patch(f"/workflows/{slug}/nodes/sort/", {"node_id": "route"})

    assert renamed.json["node_id"] == "route"
    ends = {
        (found["source_node_id"], found["target_node_id"]) for found in normal.get(f"/workflows/{slug}/edges/").json
    }
    assert ends >= {("greeting", "route"), ("route", "red"), ("route", "plain")}
    assert not any("sort" in pair for pair in ends)
    assert normal.patch(f"/workflows/{slug}/nodes/route/", {"node_id": "join"}).status_code == 409
    assert normal.patch(f"/workflows/{slug}/nodes/route/", {"node_id": "route"}).status_code == 200


def test_a_node_keeps_its_type(normal: Caller) -> None:
    address = f"/workflows/{shop(normal)}/nodes/join/"

    assert "component_type" in normal.patch(address, {"component_type": "switch"}).json["errors"]
    assert normal.patch(address, {"component_type": "merge", "label": "Join"}).status_code == 200
    assert normal.patch(address, {"updated_at": "2026-01-01T00:00:00Z"}).status_code == 422


def test_the_edges_at_a_node_go_with_it(normal: Caller) -> None:
    slug = shop(normal)

    assert normal.delete(f"/workflows/{slug}/nodes/sort/").status_code == 204

    left = normal.get(f"/workflows/{slug}/").json
    assert left["node_count"] == len(left["nodes"]) == len(SHOP["nodes"]) - 1
    assert {(found["source_node_id"], found["target_node_id"]) for found in left["edges"]} == {
        ("hook", "greeting"),
        ("red", "join"),
        ("plain", "join"),
    }


def test_the_path_of_a_webhook_belongs_to_one_active_workflow(normal: Caller, stranger: Caller) -> None:
    slug = shop(normal)
    second = workflow(normal, "Second")

    clash = normal.post(f"/workflows/{second}/nodes/", HOOK)
    foreign = stranger.post(f"/workflows/{workflow(stranger, 'Foreign')}/nodes/", HOOK)
    inside = normal.post(f"/workflows/{slug}/nodes/", {**HOOK, "node_id": "hook_2"})

    assert (clash.status_code, clash.json["code"]) == (409, "already_exists")
    assert "'hook' of the workflow 'shop'" in clash.json["detail"]
    assert foreign.status_code == 409
    assert "another workflow" in foreign.json["detail"]
    assert "shop" not in foreign.json["detail"]
    assert inside.status_code == 409

    normal.patch(f"/workflows/{slug}/", {"is_active": False})
    assert normal.post(f"/workflows/{second}/nodes/", HOOK).status_code == 201
    assert normal.patch(f"/workflows/{slug}/", {"is_active": True}).status_code == 409
    normal.delete(f"/workflows/{second}/")
    assert normal.patch(f"/workflows/{slug}/", {"is_active": True}).status_code == 200


def test_changing_a_path_to_a_taken_one_changes_nothing(normal: Caller) -> None:
    shop(normal)
    second = workflow(normal, "Second")
    add(normal, second, {**HOOK, "config": {"path": "other"}})

    assert normal.patch(f"/workflows/{second}/nodes/hook/", {"config": {"path": "orders"}}).status_code == 409

    assert normal.get(f"/workflows/{second}/nodes/hook/").json["config"]["path"] == "other"
    assert normal.patch(f"/workflows/{second}/nodes/hook/", {"config": {"path": "third"}}).status_code == 200


def test_a_stale_writer_of_a_node_is_told(normal: Caller) -> None:
    slug = shop(normal)
    address = f"/workflows/{slug}/nodes/greeting/"
    tag = normal.get(address).headers["ETag"]
    changed = normal.patch(address, {"config": {"template": "Hi"}}, headers={"If-Match": tag})
    assert changed.status_code == 200

    assert normal.patch(address, {"label": "late"}, headers={"If-Match": tag}).status_code == 412
    assert normal.delete(address, headers={"If-Match": tag}).status_code == 412

    assert normal.get(address, headers={"If-None-Match": changed.headers["ETag"]}).status_code == 304
    assert normal.delete(address, headers={"If-Match": changed.headers["ETag"]}).status_code == 204


def test_every_change_of_the_graph_is_a_revision(normal: Caller) -> None:
    slug = workflow(normal)
    revisions = [normal.get(f"/workflows/{slug}/").json["revision"]]

    def note() -> None:
        revisions.append(normal.get(f"/workflows/{slug}/").json["revision"])

    add(normal, slug, HOOK)
    note()
    add(normal, slug, GREETING)
    note()
    edge_id = edge(normal, slug, "hook", "greeting").json["id"]
    note()
    normal.patch(f"/workflows/{slug}/nodes/hook/", {"position_x": 5})
    note()
    normal.delete(f"/workflows/{slug}/edges/{edge_id}/")
    note()
    normal.patch(f"/workflows/{slug}/", {"name": "Same graph"})
    note()

    assert revisions == [1, 2, 3, 4, 5, 6, 6]


def test_the_subworkflow_of_a_node_is_one_that_its_author_may_see(normal: Caller, stranger: Caller) -> None:
    slug, mine = workflow(normal), normal.post("/workflows/", {"name": "Mine"}).json["id"]
    foreign = stranger.post("/workflows/", {"name": "Foreign"}).json["id"]

    assert normal.post(f"/workflows/{slug}/nodes/", {**GREETING, "subworkflow_id": mine}).status_code == 201
    assert normal.patch(f"/workflows/{slug}/nodes/greeting/", {"subworkflow_id": foreign}).status_code == 422
    assert normal.patch(f"/workflows/{slug}/nodes/greeting/", {"subworkflow_id": None}).json["subworkflow_id"] is None


def test_names_that_name_no_node_are_404(normal: Caller) -> None:
    slug = shop(normal)

    for node_id in ("greting", "no-dash", "x" * 300, "%00"):
        assert normal.get(f"/workflows/{slug}/nodes/{node_id}/").status_code == 404
    assert "Did you mean 'greeting'?" in normal.get(f"/workflows/{slug}/nodes/greting/").json["detail"]
