"""The document that clients are made from."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import openapi_spec_validator
import pytest
from flask import Flask

from pipelit.api import openapi
from tests.support.callers import Caller

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


@pytest.fixture
def document(app: Flask) -> dict[str, Any]:
    """The document as anybody reads it from the server."""
    answer = app.test_client().get("/api/v1/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json
    return found


def test_who_has_the_document_need_not_read_it_again(app: Flask) -> None:
    client = app.test_client()
    seen = client.get("/api/v1/openapi.json").headers["ETag"]

    assert client.get("/api/v1/openapi.json", headers={"If-None-Match": seen}).status_code == 304


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                yield path, method, operation


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    openapi_spec_validator.validate(document)

    assert document["openapi"].startswith("3.1")


def test_the_committed_document_is_the_present_one(app: Flask) -> None:
    assert COMMITTED.read_text() == openapi.text(app), "run `make generate`"


def test_every_operation_explains_itself(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        assert operation.get("summary"), f"{method} {path} has no docstring"
        assert operation["tags"], f"{method} {path}"


def test_every_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]

    assert sorted(names) == sorted(set(names))


def test_every_body_has_an_example(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert {"example", "examples"} & set(content), f"{method} {path}"


def test_a_key_is_asked_for_wherever_the_document_does_not_say_otherwise(document: dict[str, Any]) -> None:
    openly = {f"{method} {path}" for path, method, operation in operations(document) if operation.get("security") == []}

    assert document["security"] == [{"key": []}]
    assert {"get /api/v1/health/", "post /api/v1/auth/token/"} <= openly
    assert not any("/users/" in name or "/workflows/" in name for name in openly)


def test_a_node_is_one_of_the_node_types(document: dict[str, Any]) -> None:
    body = document["paths"]["/api/v1/workflows/{slug}/nodes/"]["post"]["requestBody"]["content"]["application/json"]
    schema = body["schema"]
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]

    assert schema["discriminator"]["propertyName"] == "component_type"
    assert "switch" in schema["discriminator"]["mapping"]
    assert len(schema["oneOf"]) == len(schema["discriminator"]["mapping"])


@pytest.fixture(scope="session")
def make_client(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes a Python client from a document with openapi-python-client, as a user of the API would."""

    def make(document: dict[str, Any]) -> ModuleType:
        folder = tmp_path_factory.mktemp("generated")
        source = folder / "openapi.json"
        source.write_text(json.dumps(document))
        (folder / "config.yml").write_text("post_hooks: []\n")
        command = [
            str(Path(sys.executable).parent / "openapi-python-client"),
            *("generate", "--path", str(source), "--output-path", str(folder / "pipelit_client")),
            *("--meta", "none", "--fail-on-warning", "--config", str(folder / "config.yml")),
        ]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        sys.path.insert(0, str(folder))
        try:
            return importlib.import_module("pipelit_client")
        finally:
            sys.path.remove(str(folder))

    return make


def test_a_client_made_from_the_document_works(
    app: Flask, document: dict[str, Any], admin: Caller, make_client: Any
) -> None:
    generated = make_client(document)
    models = importlib.import_module("pipelit_client.models")
    api = importlib.import_module
    with generated.AuthenticatedClient(
        base_url="http://test",
        token=admin.key,
        raise_on_unexpected_status=True,
        httpx_args={"transport": httpx.WSGITransport(app=app)},
    ) as client:
        me = api("pipelit_client.api.auth.get_me").sync(client=client)
        made = api("pipelit_client.api.users.post_users").sync(
            client=client, body=models.UserArguments(username="grace", password="correct horse battery")
        )
        refused = api("pipelit_client.api.users.get_user").sync(client=client, user_id=999)
        page = api("pipelit_client.api.users.get_users").sync(client=client, limit=1, offset=1)

    assert (me.username, me.role) == ("ada", "admin")
    assert made.created_at.tzinfo is not None
    assert refused.code == "not_found"
    assert (page.total, page.items[0].username) == (2, "grace")


def test_the_page_needs_nothing_from_elsewhere(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/").headers["Location"] == "/api/docs"

    page = client.get("/api/docs")

    assert page.status_code == 200
    assert "http" not in page.text
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert "<script>" not in page.text
    for address in ("start.js", "assets/swagger-ui-bundle.js", "assets/swagger-ui.css", "assets/favicon-32x32.png"):
        answer = client.get(f"/api/docs/{address}")
        assert answer.status_code == 200
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        answer.close()


@pytest.mark.parametrize("name", ["../__init__.py", "..%2f__init__.py", ".%2e/__init__.py", "nothing.js", "%00"])
def test_the_page_serves_only_its_own_files(app: Flask, name: str) -> None:
    assert app.test_client().get(f"/api/docs/assets/{name}").status_code == 404
