"""The node that calls HTTP APIs, against real servers."""

import base64
import json
import time
from collections.abc import Iterator, Mapping

import pytest

from pipelit.errors import (
    AddressRefused,
    ConfigError,
    Invalid,
    StepCancelled,
    StepError,
    UpstreamError,
    UpstreamRefused,
)
from pipelit.integrations.http import HttpClient
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Json
from pipelit.nodes.tools.http_request import HttpRequestNode
from tests.fakes import FakeContext, run
from tests.integrations.web import plain, reply, serving


@pytest.fixture
def client() -> Iterator[HttpClient]:
    with HttpClient(("127.0.0.0/8",)) as client:
        yield client


def call(client: HttpClient, config: Mapping[str, Json], **values: Json) -> Mapping[str, Json]:
    outcome = run(HttpRequestNode(), config, FakeContext(http=client, values=values))
    assert isinstance(outcome, Completed)
    return outcome.outputs


def refused(client: HttpClient, config: Mapping[str, Json], **values: Json) -> StepError:
    with pytest.raises(StepError) as error:
        call(client, config, **values)
    return error.value


def test_a_request_is_built_from_expressions_and_its_json_answer_becomes_data(client):
    def answer(handler, asked):
        reply(handler, 201, b'{"id": 7, "tags": ["a"]}', {"Content-Type": "application/vnd.api+json; charset=utf-8"})

    with serving(answer) as web:
        outputs = call(
            client,
            {
                "method": "POST",
                "url": "{{ base }}/orders/{{ order.id }}?v=1",
                "headers": {"X-Count": "{{ order.items | length }}", "X-Empty": None},
                "query": {"tag": "{{ order.items }}", "flag": True, "none": None},
                "body": {"items": "{{ order.items }}", "note": "for {{ order.id }} – {{ none }}"},
            },
            base=web.url(""),
            order={"id": "é1", "items": ["x", "y z"]},
        )

    assert (outputs["status"], outputs["body"]) == (201, {"id": 7, "tags": ["a"]})
    headers = outputs["headers"]
    assert isinstance(headers, dict)
    assert headers["content-type"] == "application/vnd.api+json; charset=utf-8"
    assert web.last.path == "/orders/%C3%A91?v=1&tag=x&tag=y+z&flag=true"
    assert json.loads(web.last.body) == {"items": ["x", "y z"], "note": "for é1 – "}
    assert web.last.headers["content-type"] == "application/json"
    assert web.last.headers["x-count"] == "2"
    assert "x-empty" not in web.last.headers


@pytest.mark.parametrize(
    ("body_type", "body", "sent", "content_type"),
    [
        ("json", [1, "é"], '[1, "é"]'.encode(), "application/json"),
        ("json", "text", b'"text"', "application/json"),
        ("json", None, b"", None),
        (
            "form",
            {"a": ["1", 2], "b": "é &", "c": None, "d": False},
            b"a=1&a=2&b=%C3%A9+%26&d=false",
            "form-urlencoded",
        ),
        ("text", "é", "é".encode(), "text/plain; charset=utf-8"),
        ("text", 12, b"12", "text/plain"),
        ("none", {"a": 1}, b"", None),
    ],
)
def test_bodies_are_written_as_their_type_says(client, body_type, body, sent, content_type):
    with serving() as web:
        call(client, {"method": "PUT", "url": web.url(), "body_type": body_type, "body": body})

    assert web.last.body == sent
    assert (content_type or "") in web.last.headers.get("content-type", "")
    assert ("content-type" in web.last.headers) == (content_type is not None)


def test_a_content_type_of_the_authors_own_is_kept(client):
    with serving() as web:
        config: dict[str, Json] = {"method": "POST", "url": web.url(), "body": {}, "headers": {"content-Type": "a/b"}}
        call(client, config)

    assert web.last.headers["content-type"] == "a/b"


@pytest.mark.parametrize(
    ("content_type", "sent", "body"),
    [
        ("application/json", b"", None),
        ("application/json", b"null", None),
        ("application/json", b"{broken", "{broken"),
        ("application/json", b"[NaN]", "[NaN]"),
        ("application/json", b"[" * 100_000, "[" * 100_000),
        ("text/html; charset=iso-8859-1", "é".encode("latin-1"), "é"),
        ("text/plain; charset=utf-8", b"\xff\xc3\xa9", "\ufffdé"),
        ("text/plain; charset=no-such", "é".encode(), "é"),
        ("text/plain; charset=punycode", b"a-b", "a-b"),
        ("application/atom+xml", b"<a/>", "<a/>"),
        ("", b"plain", "plain"),
        ("", b"\xff\x00", {"base64": base64.b64encode(b"\xff\x00").decode(), "content_type": ""}),
        ("image/png", b"\x89PNG", {"base64": "iVBORw==", "content_type": "image/png"}),
    ],
)
def test_answers_are_read_by_their_content_type(client, content_type, sent, body):
    headers = {"Content-Type": content_type} if content_type else {}

    with serving(lambda handler, asked: reply(handler, body=sent, headers=headers)) as web:
        assert call(client, {"url": web.url()})["body"] == body


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, UpstreamRefused),
        (401, UpstreamRefused),
        (404, UpstreamRefused),
        (408, UpstreamError),
        (425, UpstreamError),
        (429, UpstreamError),
        (500, UpstreamError),
        (503, UpstreamError),
    ],
)
def test_an_error_status_fails_the_step_and_may_be_retried_if_it_may_pass(client, status, error):
    def answer(handler, asked):
        reply(handler, status, b'{"why": "no"}', {"Content-Type": "application/json", "Retry-After": "17"})

    with serving(answer) as web:
        failure = refused(client, {"url": web.url()})
        outputs = call(client, {"url": web.url(), "fail_on_status": False})

    assert type(failure) is error
    assert failure.detail == f'The answer\'s status was {status}: {{"why": "no"}}'
    assert not isinstance(failure, UpstreamError) or failure.after == 17
    assert (outputs["status"], outputs["body"]) == (status, {"why": "no"})


def test_a_repetition_can_be_told_by_its_idempotency_key(client):
    with serving() as web:
        for method in ("GET", "POST", "PATCH", "DELETE"):
            call(client, {"method": method, "url": web.url()})
        call(client, {"method": "POST", "url": web.url(), "idempotency_key": False})
        call(client, {"method": "POST", "url": web.url(), "headers": {"Idempotency-Key": "mine"}})

    sent = [asked.headers.get("idempotency-key") for asked in web.asked]
    assert sent == [None, *[FakeContext().idempotency_key] * 3, None, "mine"]


def test_only_a_request_that_nobody_can_recognise_is_not_safe_to_repeat():
    safe = HttpRequestNode().is_safe_to_repeat

    assert safe({})
    assert safe({"method": "POST"})
    assert safe({"method": "PUT", "idempotency_key": False})
    assert not safe({"method": "POST", "idempotency_key": False})
    assert not safe({"method": "{{ a.method }}", "idempotency_key": False})


@pytest.mark.parametrize(
    "config",
    [
        {"headers": {"Host": "x"}},
        {"headers": {"X": ["a"]}},
        {"headers": {"X": "a\r\nB: c"}},
        {"query": {"q": {"a": 1}}},
        {"query": {"q": "\ud800"}},
        {"body_type": "form", "body": "a=1", "method": "POST"},
        {"body_type": "form", "body": {"a": {"b": 1}}, "method": "POST"},
        {"body_type": "text", "body": {"a": 1}, "method": "POST"},
        {"body_type": "text", "body": "\ud800", "method": "POST"},
        {"body": {"a": "\ud800"}, "method": "POST"},
        {"method": "{{ 'BREW' }}"},
        {"url": "{{ 'ftp://x' }}"},
        {"url": "{{ '' }}"},
        {"timeout": "{{ 'soon' }}"},
    ],
)
def test_what_cannot_be_sent_is_a_configuration_error(client, config):
    assert type(refused(client, {"url": "http://127.0.0.1:9/", **config})) is ConfigError


@pytest.mark.parametrize(
    "config", [{}, {"url": ""}, {"url": "http://x", "method": "BREW"}, {"url": "http://x", "body_type": "{{ a }}"}]
)
def test_a_config_that_cannot_work_is_not_stored(config):
    with pytest.raises(Invalid):
        HttpRequestNode().check(config)


def test_private_addresses_are_refused_and_a_stopped_execution_stops_the_call(client):
    with serving(plain) as web, HttpClient() as guarded:
        assert type(refused(guarded, {"url": web.url()})) is AddressRefused
        assert web.asked == []

    def slow(handler, asked):
        time.sleep(1)

    with serving(slow) as web, pytest.raises(StepCancelled):
        run(HttpRequestNode(), {"url": web.url()}, FakeContext(http=client, cancelled=lambda: True))
