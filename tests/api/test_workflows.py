"""People make workflows, find them, share them, copy them and put them away."""

from typing import Any

from flask import Flask

from pipelit import clock
from pipelit.extensions import db, transaction
from pipelit.models import CompiledPlan, Workflow, WorkflowExecution, WorkflowVersion
from tests.api.shop import HOOK, SHOP, add, shop, workflow
from tests.support.callers import Caller, Person

NO_WORKFLOWS: list[tuple[dict[str, Any], str]] = [
    ({}, "name"),
    ({"name": ""}, "name"),
    ({"name": " "}, "name"),
    ({"name": "\t\n\u3000\u00a0"}, "name"),
    ({"name": "x" * 256}, "name"),
    ({"name": "x", "slug": "Not A Slug"}, "slug"),
    ({"name": "x", "slug": "node-types"}, "slug"),
    ({"name": "x", "nodes": []}, "nodes"),
    ({"name": "x", "is_active": "yes"}, "is_active"),
    ({"name": "x", "tags": "shop"}, "tags"),
    ({"name": "x", "tags": [5]}, "tags.0"),
    ({"name": "x", "tags": ["fine", "  "]}, "tags.1"),
    ({"name": "x", "input_schema": []}, "input_schema"),
    ({"name": "x", "max_execution_seconds": 0}, "max_execution_seconds"),
    ({"name": "x", "max_execution_seconds": True}, "max_execution_seconds"),
    ({"name": "x", "error_handler_workflow_id": 12345}, "error_handler_workflow_id"),
    ({"name": "x", "error_handler_workflow_id": 2**70}, "error_handler_workflow_id"),
    ({"name": "nul \x00"}, "name"),
]

FILTERED: list[tuple[str, list[str]]] = [
    ("search=FIR", ["First"]),
    ("search=100%25", ["Second"]),
    ("search=%25", ["Second"]),
    ("search=_ly", ["Second"]),
    ("tag=shop", ["First"]),
    ("tag=sho", []),
    ("is_active=false", ["Second"]),
    ("is_active=true&tag=old", ["First"]),
    ("limit=1", ["Second"]),
    ("limit=1&offset=1", ["First"]),
]


def test_a_workflow_is_made_found_changed_and_put_away(normal: Caller) -> None:
    made = normal.post("/workflows/", {"name": "Order intake №2", "tags": ["shop"], "max_execution_seconds": 60})
    assert made.status_code == 201
    assert (made.json["slug"], made.json["owner"], made.json["access"]) == ("order-intake-no2", "grace", "owner")
    assert (made.json["node_count"], made.json["edge_count"], made.json["is_active"]) == (0, 0, True)
    address = f"/workflows/{made.json['slug']}/"
    assert normal.get(address).json == {**made.json, "nodes": [], "edges": []}

    changed = normal.patch(address, {"name": "Orders", "slug": "orders", "input_schema": {"type": "object"}})

    assert (changed.json["name"], changed.json["input_schema"]) == ("Orders", {"type": "object"})
    assert normal.get(address).status_code == 404
    assert normal.delete("/workflows/orders/").status_code == 204
    assert normal.get("/workflows/orders/").status_code == 404
    assert normal.get("/workflows/").json == {"items": [], "total": 0}


def test_the_list_is_newest_first_counted_and_never_brings_the_graph(normal: Caller) -> None:
    shop(normal, "First", tags=["shop", "old"])
    workflow(normal, "Second", description="100% percent_ly", is_active=False)

    listed = normal.get("/workflows/").json

    assert [(item["name"], item["node_count"], item["edge_count"]) for item in listed["items"]] == [
        ("Second", 0, 0),
        ("First", 6, 6),
    ]
    assert listed["total"] == 2
    assert "nodes" not in listed["items"][0]


def test_the_list_is_filtered(normal: Caller) -> None:
    workflow(normal, "First", tags=["shop", "old"])
    workflow(normal, "Second", description="100% percent_ly", is_active=False)

    for query, found in FILTERED:
        assert [item["name"] for item in normal.get(f"/workflows/?{query}").json["items"]] == found, query


def test_slugs_are_unique_and_made_ones_get_a_number(normal: Caller, stranger: Caller) -> None:
    assert [workflow(normal, "Shop"), workflow(stranger, "Shop"), workflow(normal, "Shop")] == [
        "shop",
        "shop-2",
        "shop-3",
    ]
    assert workflow(normal, "日本") == "workflow"
    assert workflow(normal, "Import") == "import-2"

    taken = normal.post("/workflows/", {"name": "Other", "slug": "shop"})

    assert (taken.status_code, taken.json["code"]) == (409, "already_exists")
    assert normal.patch("/workflows/shop-3/", {"slug": "shop-2"}).status_code == 409
    assert normal.patch("/workflows/shop-3/", {"slug": "shop-3"}).status_code == 200


def test_a_deleted_workflow_frees_its_slug(normal: Caller) -> None:
    for _ in range(3):
        slug = workflow(normal, "Shop")
        assert slug == "shop"
        assert normal.delete(f"/workflows/{slug}/").status_code == 204


def test_what_is_not_a_workflow_is_refused_by_field(normal: Caller) -> None:
    for body, field in NO_WORKFLOWS:
        answer = normal.post("/workflows/", body)
        assert (answer.status_code, answer.json["code"]) == (422, "invalid"), body
        assert field in answer.json["errors"], answer.json

    assert normal.get("/workflows/").json["total"] == 0


def test_a_name_may_begin_with_a_space_and_have_lines(normal: Caller) -> None:
    for name in (" Sales", "Sales\n2026 ", "\n."):
        slug = normal.post("/workflows/", {"name": name}).json["slug"]
        assert normal.get(f"/workflows/{slug}/").json["name"] == name
        assert normal.patch(f"/workflows/{slug}/", {"name": "  "}).json["errors"].keys() == {"name"}


def test_a_schema_without_a_bottom_is_refused(normal: Caller) -> None:
    deep: object = {}
    for _ in range(200):
        deep = {"a": deep}

    assert "input_schema" in normal.post("/workflows/", {"name": "x", "input_schema": deep}).json["errors"]


def test_others_do_not_see_a_workflow_until_it_is_public_and_then_may_only_look(
    normal: Caller, stranger: Caller, admin: Caller
) -> None:
    slug = shop(normal)
    address = f"/workflows/{slug}/"
    assert stranger.get(address).status_code == 404
    assert stranger.patch(address, {"name": "Mine"}).status_code == 404
    assert stranger.get("/workflows/").json["total"] == 0
    assert admin.get(address).json["access"] == "owner"

    normal.patch(address, {"is_public": True})

    assert stranger.get(address).json["access"] == "viewer"
    assert [item["slug"] for item in stranger.get("/workflows/").json["items"]] == [slug]
    writes = [
        stranger.patch(address, {"name": "Mine"}),
        stranger.delete(address),
        stranger.put(f"{address}graph/", SHOP),
        stranger.post(f"{address}nodes/", HOOK),
        stranger.post(f"{address}collaborators/", {"username": "mallory", "role": "editor"}),
    ]
    assert {answer.status_code for answer in writes} == {403}


def test_editors_change_the_workflow_and_viewers_look_and_only_owners_share_and_delete(
    normal: Caller, stranger: Caller, person: Person
) -> None:
    slug, friend = workflow(normal), person("linus")
    address, sharing = f"/workflows/{slug}/", f"/workflows/{slug}/collaborators/"
    assert normal.post(sharing, {"username": "mallory", "role": "editor"}).status_code == 201
    assert normal.post(sharing, {"user_id": friend.id}).json["role"] == "viewer"

    assert stranger.patch(address, {"name": "Ours"}).json["access"] == "editor"
    assert stranger.post(f"{address}nodes/", HOOK).status_code == 201
    refused = [
        stranger.patch(address, {"is_public": True}),
        stranger.delete(address),
        stranger.delete(f"{sharing}?username=linus"),
        stranger.post(sharing, {"username": "linus", "role": "editor"}),
        friend.patch(address, {"name": "Mine"}),
    ]
    assert {answer.status_code for answer in refused} == {403}
    assert friend.get(address).json["access"] == "viewer"

    listed = normal.get(sharing).json
    assert [(item["username"], item["role"]) for item in listed["items"]] == [
        ("mallory", "editor"),
        ("linus", "viewer"),
    ]
    assert normal.post(sharing, {"username": "linus", "role": "editor"}).json["role"] == "editor"
    assert normal.get(sharing).json["total"] == 2


def test_access_is_withdrawn_by_the_owner_or_given_up(normal: Caller, stranger: Caller, person: Person) -> None:
    slug, friend = workflow(normal), person("linus")
    sharing = f"/workflows/{slug}/collaborators/"
    for name in ("mallory", "linus"):
        normal.post(sharing, {"username": name, "role": "viewer"})

    assert normal.delete(f"{sharing}?user_id={friend.id}").status_code == 204
    assert stranger.delete(f"{sharing}{stranger.id}/").status_code == 204

    assert stranger.get(f"/workflows/{slug}/").status_code == 404
    assert normal.get(sharing).json["items"] == []
    assert normal.delete(f"{sharing}?username=linus").status_code == 404
    assert normal.delete(sharing).status_code == 422
    assert normal.delete(f"{sharing}?username=linus&user_id=1").status_code == 422


def test_a_workflow_is_not_shared_with_nobody_nor_with_its_owner(normal: Caller, stranger: Caller) -> None:
    sharing = f"/workflows/{workflow(normal)}/collaborators/"

    for body in (
        {},
        {"username": "nobody"},
        {"user_id": 999},
        {"username": "grace"},
        {"username": "mallory", "role": "owner"},
        {"username": "mallory", "user_id": stranger.id},
    ):
        assert normal.post(sharing, body).status_code == 422, body
    assert normal.get(sharing).json["total"] == 0


def test_a_stale_writer_is_told_and_a_reader_who_is_up_to_date_gets_nothing(normal: Caller) -> None:
    address = f"/workflows/{workflow(normal)}/"
    tag = normal.get(address).headers["ETag"]
    assert normal.get(address, headers={"If-None-Match": tag}).status_code == 304
    assert normal.post(f"{address}nodes/", HOOK).status_code == 201

    stale = normal.patch(address, {"name": "Late"}, headers={"If-Match": tag})

    assert (stale.status_code, stale.json["code"]) == (412, "stale_version")
    assert normal.put(f"{address}graph/", SHOP, headers={"If-Match": tag}).status_code == 412
    assert normal.delete(address, headers={"If-Match": tag}).status_code == 412
    fresh = normal.get(address)
    assert fresh.json["name"] == "Shop"
    assert normal.patch(address, {"name": "In time"}, headers={"If-Match": fresh.headers["ETag"]}).status_code == 200
    assert normal.patch(address, {"name": "Whatever"}, headers={"If-Match": "*"}).status_code == 200


def test_there_is_one_default_workflow_and_administrators_choose_it(normal: Caller, admin: Caller) -> None:
    first, second = workflow(admin, "First", is_default=True), workflow(normal, "Second")
    assert normal.patch(f"/workflows/{second}/", {"is_default": True}).status_code == 403

    assert admin.patch(f"/workflows/{second}/", {"is_default": True}).json["is_default"] is True

    assert admin.get(f"/workflows/{first}/").json["is_default"] is False
    assert normal.post("/workflows/", {"name": "Third", "is_default": True}).status_code == 403


def test_an_error_handler_is_another_workflow_that_one_may_see(normal: Caller, stranger: Caller) -> None:
    handler = normal.post("/workflows/", {"name": "Handler"}).json
    foreign = stranger.post("/workflows/", {"name": "Foreign"}).json
    address = f"/workflows/{workflow(normal)}/"

    assert normal.patch(address, {"error_handler_workflow_id": handler["id"]}).status_code == 200
    assert normal.patch(address, {"error_handler_workflow_id": foreign["id"]}).status_code == 422
    assert (
        normal.patch(f"/workflows/{handler['slug']}/", {"error_handler_workflow_id": handler["id"]}).status_code == 422
    )
    assert normal.patch(address, {"error_handler_workflow_id": None}).json["error_handler_workflow_id"] is None


def test_a_copy_belongs_to_who_made_it_and_sleeps(normal: Caller, stranger: Caller) -> None:
    slug = shop(normal, tags=["shop"], is_public=True)

    mine = normal.post(f"/workflows/{slug}/duplicate/").json
    theirs = stranger.post(f"/workflows/{slug}/duplicate/", {"name": "Their shop"}).json

    assert (mine["name"], mine["slug"], mine["is_active"], mine["is_public"]) == (
        "Shop (copy)",
        "shop-copy",
        False,
        False,
    )
    assert (mine["node_count"], mine["edge_count"], mine["tags"]) == (6, 6, ["shop"])
    assert (theirs["slug"], theirs["owner"]) == ("their-shop", "mallory")
    copied = normal.get("/workflows/shop-copy/graph/").json
    original = normal.get(f"/workflows/{slug}/graph/").json
    assert (copied["nodes"], copied["edges"]) == (original["nodes"], original["edges"])
    awake = normal.patch("/workflows/shop-copy/", {"is_active": True})
    assert (awake.status_code, awake.json["code"]) == (409, "already_exists")
    assert "'hook' of the workflow 'shop'" in awake.json["detail"]
    assert normal.get("/workflows/shop-copy/").json["is_active"] is False


def test_secrets_are_copied_only_by_who_may_change_the_original(normal: Caller, stranger: Caller) -> None:
    slug = workflow(normal, is_public=True)
    config = {"path": "orders", "auth": "secret", "secret": "correct horse battery"}
    add(normal, slug, {**HOOK, "config": config})

    normal.post(f"/workflows/{slug}/duplicate/", {"slug": "mine"})
    stranger.post(f"/workflows/{slug}/duplicate/", {"slug": "theirs"})

    assert normal.get("/workflows/mine/nodes/hook/").json["config"]["secret"] == "••••tery"
    assert "secret" not in stranger.get("/workflows/theirs/nodes/hook/").json["config"]
    said = stranger.post("/workflows/theirs/validate/").json
    assert [problem["node_id"] for problem in said["errors"] if problem["code"] == "config_invalid"] == ["hook"]


def test_many_are_deleted_together_or_not_at_all(normal: Caller, stranger: Caller) -> None:
    for name in ("One", "Two"):
        workflow(normal, name)
    workflow(stranger, "Foreign")

    assert normal.post("/workflows/batch-delete/", {"slugs": ["one", "two", "foreign"]}).status_code == 404
    assert normal.get("/workflows/").json["total"] == 2
    assert normal.post("/workflows/batch-delete/", {"slugs": ["two", "one", "one"]}).status_code == 204
    assert normal.get("/workflows/").json["total"] == 0
    assert normal.post("/workflows/batch-delete/", {"slugs": []}).status_code == 422


def test_a_workflow_that_runs_is_not_deleted(app: Flask, normal: Caller) -> None:
    slug = shop(normal)
    _pretend_it_runs(app, slug)

    busy = normal.delete(f"/workflows/{slug}/")

    assert (busy.status_code, busy.json["code"]) == (409, "workflow_busy")
    assert normal.post("/workflows/batch-delete/", {"slugs": [slug]}).status_code == 409
    assert normal.get(f"/workflows/{slug}/").status_code == 200


def test_versions_are_listed_newest_first_and_read_one_by_one(app: Flask, normal: Caller) -> None:
    slug = shop(normal)
    with app.app_context(), transaction() as session:
        row = session.query(Workflow).filter_by(slug=slug).one()
        for number in (1, 2):
            graph = {"nodes": [], "edges": [], "number": number}
            session.add(WorkflowVersion(workflow_id=row.id, number=number, revision=number, graph=graph))

    listed = normal.get(f"/workflows/{slug}/versions/").json

    assert [item["number"] for item in listed["items"]] == [2, 1]
    assert "graph" not in listed["items"][0]
    assert normal.get(f"/workflows/{slug}/versions/1/").json["graph"]["number"] == 1
    assert normal.get(f"/workflows/{slug}/versions/3/").status_code == 404
    assert normal.get(f"/workflows/{slug}/versions/{2**80}/").status_code == 404


def test_node_types_are_described_for_the_palette(normal: Caller) -> None:
    described = normal.get("/workflows/node-types/").json

    switch = described["switch"]
    assert (switch["display_name"], switch["category"], switch["executable"]) == ("Switch", "logic", True)
    assert described["trigger_webhook"]["executable"] is False
    assert "rules" in switch["config_schema"]["properties"]


def test_the_same_request_with_the_same_key_makes_one_workflow(normal: Caller) -> None:
    headers = {"Idempotency-Key": "once"}

    answers = [normal.post("/workflows/", {"name": "Shop"}, headers=headers) for _ in range(2)]

    assert answers[0].json == answers[1].json
    assert normal.get("/workflows/").json["total"] == 1


def test_paths_that_name_nothing_are_404(normal: Caller) -> None:
    for slug in ("nothing", "Not-A-Slug", "a~1", "x" * 300, "%00", "%ED%A0%80"):
        assert normal.get(f"/workflows/{slug}/").status_code == 404


def _pretend_it_runs(app: Flask, slug: str) -> None:
    with app.app_context():
        with transaction() as session:
            row = session.query(Workflow).filter_by(slug=slug).one()
            session.add(CompiledPlan(hash="0" * 32, plan="{}"))
            session.add(
                WorkflowExecution(
                    execution_id="00000000-0000-4000-8000-000000000000",
                    workflow_id=row.id,
                    plan_hash="0" * 32,
                    trigger_node_id="hook",
                    status="running",
                    started_at=clock.now(),
                )
            )
        db.session.remove()
