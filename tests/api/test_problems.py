"""Whatever goes wrong, the answer is a problem document, and it gives nothing away."""

import gzip
import io
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError

from pipelit.api.auth import open_route
from pipelit.config import Settings
from pipelit.errors import CredentialError, InvalidGraph, Problem
from tests.support.callers import Caller

SECRET = "correct horse battery"


def assert_problem(answer: Any, status: int, code: str) -> None:
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert answer.content_type == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["type"] == f"urn:pipelit:problem:{code}"
    assert answer.json["title"]
    assert answer.json["detail"]


def test_nothing_there(anonymous: Caller) -> None:
    assert_problem(anonymous.get("/nowhere/"), 404, "not_found")
    assert_problem(anonymous.client.get("/else/where"), 404, "not_found")


def test_a_method_that_is_not_offered(admin: Caller) -> None:
    answer = admin.put("/users/")

    assert_problem(answer, 405, "method_not_allowed")
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


def test_a_body_that_is_too_large(app: Flask, admin: Caller) -> None:
    answer = admin.send("POST", "/users/", data=b"[" * (10 * 2**20), content_type="application/json")

    assert_problem(answer, 413, "too_large")


def test_a_body_in_chunks_is_refused_and_not_cut_off(anonymous: Caller, app: Flask) -> None:
    whole = b'{"username": "ada"}' + b" " * app.config["MAX_CONTENT_LENGTH"]

    answer = anonymous.post(
        "/auth/token/",
        input_stream=io.BytesIO(whole),
        content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
    )

    assert_problem(answer, 413, "too_large")


def test_a_body_that_is_not_declared_as_json(admin: Caller) -> None:
    answer = admin.send("POST", "/users/", data=b'{"username": "x"}', content_type="text/plain")

    assert_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "identity, gzip", "nonsense"])
def test_a_body_that_is_compressed(admin: Caller, anonymous: Caller, encoding: str) -> None:
    packed = {
        "data": gzip.compress(b'{"username": "ada"}'),
        "content_type": "application/json",
        "headers": {"Content-Encoding": encoding},
    }

    for answer in (admin.post("/users/", **packed), anonymous.post("/webhooks/orders", **packed)):
        assert_problem(answer, 415, "unsupported_encoding")
        assert answer.headers["Accept-Encoding"] == "identity"


def test_a_body_that_says_that_it_is_not_compressed(admin: Caller) -> None:
    for encoding in ("identity", "Identity", ""):
        answer = admin.post("/users/me/keys/", {"name": "plain"}, headers={"Content-Encoding": encoding})

        assert answer.status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nonsense",
        b"{'username': 'x'}",
        b'{"username": NaN}',
        b'{"username": 1e999}',
        b'{"username": ' + b"9" * 5000 + b"}",
        b'{"username": "\x00"}',
        b'{"username": "\xff"}',
        b'{"username": "\xed\xa0\x80"}',
        b"[" * 100_000,
        b"[" * 900 + rb'"\u0000"' + b"]" * 900,
        b'{"name":' + b"[" * 201 + b"]" * 201 + b"}",
        b'{"a":' * 100_000,
        b"\xef\xbb\xbf{}",
    ],
)
def test_a_body_that_is_not_json(admin: Caller, body: bytes) -> None:
    answer = admin.send("POST", "/users/", data=body, content_type="application/json")

    assert_problem(answer, 422, "invalid")


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"text"', b"7", b"true", b"{}"])
def test_json_that_is_not_the_object_asked_for(admin: Caller, body: bytes) -> None:
    answer = admin.send("POST", "/users/", data=body, content_type="application/json")

    assert_problem(answer, 422, "invalid")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (rb'{"name": "a\u0000b"}', "name"),
        (rb'{"name": "\ud800"}', "name"),
        (rb'{"name": "\uDFFFx"}', "name"),
        (rb'{"nested": {"list": ["fine", "\u0000"]}}', "nested.list.1"),
        (rb'{"\ud800": 1}', "?"),
    ],
)
def test_text_that_a_database_cannot_keep(admin: Caller, body: bytes, path: str) -> None:
    answer = admin.send("POST", "/users/me/keys/", data=body, content_type="application/json")

    assert_problem(answer, 422, "invalid")
    assert list(answer.json["errors"]) == [path]


def test_text_with_a_whole_surrogate_pair_or_an_escaped_backslash_is_fine(admin: Caller) -> None:
    body = rb'{"name": "\ud83d\ude00 \\u0000"}'

    answer = admin.send("POST", "/users/me/keys/", data=body, content_type="application/json")

    assert answer.json["name"] == "\U0001f600 \\u0000"


def test_query_parameters_with_unkeepable_text(admin: Caller) -> None:
    assert_problem(admin.get("/users/?limit=%00"), 422, "invalid")
    assert_problem(admin.get("/users/?%00=1"), 422, "invalid")


def test_every_field_that_is_wrong_is_named(admin: Caller) -> None:
    answer = admin.post("/users/", {"username": "x y", "password": 5, "role": "king", "colour": "red"})

    assert_problem(answer, 422, "invalid")
    assert set(answer.json["errors"]) == {"username", "password", "role", "colour"}


@pytest.fixture
def breakable(app: Flask) -> Flask:
    """The application with views that fail in ways no view should."""

    def crash() -> None:
        raise RuntimeError(f"a bug, next to {SECRET}")

    def outage() -> None:
        raise OperationalError("SELECT", {"password": SECRET}, Exception("the database system is starting up"))

    def unreadable() -> None:
        raise CredentialError("A stored secret was encrypted with another key.")

    def undrawable() -> None:
        raise InvalidGraph(
            [
                Problem("no_trigger", "Nothing can start this workflow: add a trigger."),
                Problem("unknown_name", "shape reads 'hok'.", "shape"),
                Problem("missing_node", "An edge leads nowhere.", edge_id=7),
            ]
        )

    for view in (crash, outage, unreadable, undrawable):
        app.add_url_rule(f"/{view.__name__}", view.__name__, open_route(view))
    return app


def test_a_bug_is_answered_with_an_id_and_logged_with_everything(
    breakable: Flask, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = breakable.test_client().get("/crash")

    assert_problem(answer, 500, "internal_error")
    assert SECRET not in answer.text
    incident = answer.json["instance"].removeprefix("urn:uuid:")
    assert incident in capsys.readouterr().out + "".join(str(record.msg) for record in caplog.records)


def test_a_secret_that_cannot_be_read_is_our_failure(breakable: Flask) -> None:
    answer = breakable.test_client().get("/unreadable")

    assert_problem(answer, 500, "internal_error")
    assert "encrypted" not in answer.text


def test_a_graph_that_cannot_run_is_told_by_node_and_edge(breakable: Flask) -> None:
    answer = breakable.test_client().get("/undrawable")

    assert_problem(answer, 422, "invalid_graph")
    assert set(answer.json["errors"]) == {"graph", "nodes.shape", "edges.7"}
    assert answer.json["problems"][1] == {"node_id": "shape", "code": "unknown_name", "message": "shape reads 'hok'."}


def test_an_address_with_two_slashes_leads_to_that_with_one(anonymous: Caller) -> None:
    answer = anonymous.client.get("/api//v1/health/")

    assert answer.status_code == 308
    assert answer.headers["Location"].endswith("/api/v1/health/")


def test_an_outage_asks_to_come_back(breakable: Flask) -> None:
    answer = breakable.test_client().get("/outage")

    assert_problem(answer, 503, "unavailable")
    assert SECRET not in answer.text
    assert answer.headers["Retry-After"] == "5"


def test_without_redis_signing_in_says_so(settings: Settings, tmp_path: Any) -> None:
    from dataclasses import replace

    from pipelit.app import create_app
    from pipelit.extensions import db

    app = create_app(replace(settings, redis_url=f"unix://{tmp_path}/nothing.sock"))

    answer = app.test_client().post("/api/v1/auth/token/", json={"username": "ada", "password": SECRET})

    assert_problem(answer, 503, "unavailable")
    with app.app_context():
        db.engine.dispose()


def test_every_answer_carries_the_protections_and_an_id(admin: Caller, anonymous: Caller) -> None:
    for answer in (
        admin.get("/users/"),
        anonymous.get("/users/"),
        anonymous.get("/nowhere/"),
        anonymous.get("/health/"),
    ):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert len(answer.headers["X-Request-Id"]) == 32


def test_a_sane_request_id_is_kept_and_another_is_not(anonymous: Caller) -> None:
    kept = anonymous.get("/health/", headers={"X-Request-Id": "trace-0123456789"})
    replaced = anonymous.get("/health/", headers={"X-Request-Id": 'x" injected'})

    assert kept.headers["X-Request-Id"] == "trace-0123456789"
    assert "injected" not in replaced.headers["X-Request-Id"]


@pytest.fixture
def shared(settings: Settings) -> Any:
    """The application as an operator sets it up whose pages live elsewhere."""
    from dataclasses import replace

    from pipelit.app import create_app
    from pipelit.extensions import db

    app = create_app(replace(settings, cors_origins=("https://app.example.org",)))
    yield app.test_client()
    with app.app_context():
        db.engine.dispose()


def test_pages_of_listed_origins_may_call_and_others_may_not(shared: Any) -> None:
    listed = shared.get("/api/v1/health/", headers={"Origin": "https://app.example.org"})
    other = shared.get("/api/v1/health/", headers={"Origin": "https://evil.example.org"})

    assert listed.headers["Access-Control-Allow-Origin"] == "https://app.example.org"
    assert "Access-Control-Allow-Origin" not in other.headers
    for answer in (listed, other):
        assert "Origin" in answer.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_preflight_needs_no_key(shared: Any) -> None:
    asks = {"Origin": "https://app.example.org", "Access-Control-Request-Method": "POST"}

    answer = shared.options("/api/v1/users/", headers=asks)

    assert answer.status_code == 200
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]


def test_by_default_no_origin_is_listed(anonymous: Caller) -> None:
    answer = anonymous.get("/health/", headers={"Origin": "null"})

    assert "Access-Control-Allow-Origin" not in answer.headers
