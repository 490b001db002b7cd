"""Who may do what, on every route there is: the routes come from the API's own document, so that none is forgotten."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from pipelit.api import openapi
from tests.support.callers import PREFIX, Caller

OPEN = {
    "get /auth/setup-status/",
    "post /auth/setup/",
    "post /auth/token/",
    "post /auth/mfa/login-verify/",
    "get /health/",
    "get /health/ready/",
    "get /resume/{token}/",
    "post /resume/{token}/",
}
"""The routes the contract marks open; webhooks check secrets of their own, and addresses that resume are secrets."""

FOR_ADMINS = "/users/"
FOR_EVERYBODY = "/users/me/"


class Route:
    """One operation: its method, its address with values for the parameters, and a body that fits."""

    def __init__(self, path: str, method: str, operation: dict[str, Any]) -> None:
        self.template = path.removeprefix(PREFIX)
        self.method = method
        content = operation.get("requestBody", {}).get("content", {})
        self.body = next((kind["example"] for kind in content.values() if "example" in kind), None)
        parameters = operation.get("parameters", ())
        self.query = {p["name"]: 1 for p in parameters if p["in"] == "query" and p["name"] == "user_id"}

    @property
    def name(self) -> str:
        return f"{self.method} {self.template}"

    def call(self, caller: Caller, **values: object) -> Any:
        address = self.template.format(
            **{"slug": "x", "node_id": "x", "execution_id": "x", "path": "x", "token": "x"} | values
        )
        return caller.send(self.method.upper(), address, json=self.body, query_string=self.query)


@pytest.fixture
def routes(app: Flask) -> list[Route]:
    return list(_routes(openapi.document(app)))


def _routes(document: dict[str, Any]) -> Iterator[Route]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                yield Route(path, method, operation)


READING = {"/workflows/{slug}/duplicate/", "/workflows/{slug}/validate/"}
"""Posts that leave the workflow they are about as it is: whoever may read it may do them."""

NUMBERS = {"log_id": 1, "user_id": 1, "key_id": 1, "edge_id": 1, "number": 1}


def test_without_a_key_only_the_open_routes_answer(routes: list[Route], anonymous: Caller) -> None:
    for route in routes:
        answer = route.call(anonymous, **NUMBERS)
        if route.name not in OPEN and "/webhooks/{" not in route.name:
            assert (answer.status_code, answer.json["code"]) == (401, "unauthorized"), route.name
    assert {route.name for route in routes} >= OPEN


def test_beside_the_documented_routes_there_are_only_these(app: Flask) -> None:
    documented = set(openapi.document(app)["paths"])
    addresses = [rule.rule for rule in app.url_map.iter_rules()]
    beside = {address for address in addresses if re.sub(r"<(?:[^>]+:)?(\w+)>", r"{\1}", address) not in documented}

    assert beside == {
        *("/", "/api/docs/", "/api/docs/start.js", "/api/docs/assets/<path:name>", "/api/v1/openapi.json"),
        *("/metrics", "/ws/"),
    }


def test_with_an_expired_or_foreign_word_for_a_key_it_is_the_same(routes: list[Route], app: Flask) -> None:
    nobody = Caller(app.test_client(), "pl_" + "x" * 43)
    for route in routes:
        if route.name not in OPEN and "/webhooks/{" not in route.name:
            assert route.call(nobody, **NUMBERS).status_code == 401, route.name


def test_users_are_for_administrators(routes: list[Route], normal: Caller, admin: Caller) -> None:
    guarded = [r for r in routes if r.template.startswith(FOR_ADMINS) and not r.template.startswith(FOR_EVERYBODY)]
    assert len(guarded) >= 9

    for route in guarded:
        assert route.call(normal, **NUMBERS | {"user_id": admin.id}).status_code == 403, route.name


def test_nothing_of_another_users_workflow_is_there(routes: list[Route], normal: Caller, stranger: Caller) -> None:
    assert normal.post("/workflows/", {"name": "Mine", "slug": "mine"}).status_code == 201
    node = {"component_type": "template", "node_id": "t", "config": {"template": "x"}}
    assert normal.post("/workflows/mine/nodes/", node).status_code == 201

    beneath = [route for route in routes if "/workflows/{slug}/" in route.template]
    assert len(beneath) >= 15
    for route in beneath:
        answer = route.call(stranger, slug="mine", node_id="t", **NUMBERS)
        assert (answer.status_code, answer.json["code"]) == (404, "not_found"), route.name
    assert stranger.get("/workflows/").json["total"] == 0
    assert normal.get("/workflows/mine/").status_code == 200


def test_nothing_of_another_users_executions_is_there(routes: list[Route], normal: Caller, stranger: Caller) -> None:
    normal.post("/workflows/", {"name": "Mine", "slug": "mine"})
    assert normal.post("/workflows/mine/nodes/", {"component_type": "trigger_manual"}).status_code == 201
    execution_id = normal.post("/workflows/mine/execute/").json["execution_id"]

    beneath = [route for route in routes if "{execution_id}" in route.template]
    assert len(beneath) >= 5
    for route in beneath:
        answer = route.call(stranger, execution_id=execution_id, **NUMBERS)
        assert (answer.status_code, answer.json["code"]) == (404, "not_found"), route.name
    assert stranger.post("/executions/batch-delete/", {"execution_ids": [execution_id]}).status_code == 404
    assert stranger.get("/executions/").json["total"] == 0
    assert normal.get(f"/executions/{execution_id}/").status_code == 200


def test_a_reader_of_a_public_workflow_changes_nothing(routes: list[Route], normal: Caller, stranger: Caller) -> None:
    assert normal.post("/workflows/", {"name": "Ours", "slug": "ours", "is_public": True}).status_code == 201
    node = {"component_type": "template", "node_id": "t", "config": {"template": "x"}}
    normal.post("/workflows/ours/nodes/", node)
    before = normal.get("/workflows/ours/").json

    for route in routes:
        if "/workflows/{slug}/" in route.template and route.method != "get" and route.template not in READING:
            answer = route.call(stranger, slug="ours", node_id="t", **NUMBERS)
            assert answer.status_code in (403, 404), route.name

    assert normal.get("/workflows/ours/").json == before
