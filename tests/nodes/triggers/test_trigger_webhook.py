"""A webhook knows its callers and shows what they sent, without their secrets."""

import base64
import hashlib
import hmac
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelit.errors import Invalid, Unauthorized
from pipelit.nodes.base import TriggerEvent
from pipelit.nodes.ports import Json
from pipelit.nodes.triggers.trigger_webhook import TriggerWebhook, WebhookConfig, verify
from tests.fakes import NOON

WEBHOOK = TriggerWebhook()
SECRET = "a shared secret"
BODY = b'{"order": 7}'


def configured(**values: Json) -> WebhookConfig:
    config: WebhookConfig = WEBHOOK.configure({"path": "orders", **values})
    return config


def signature(body: bytes = BODY, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def is_let_in(config: WebhookConfig, headers: dict[str, str], body: bytes = BODY, minutes: float = 0) -> bool:
    try:
        verify(config, headers, body, NOON + timedelta(minutes=minutes))
    except Unauthorized:
        return False
    return True


@pytest.mark.parametrize("path", ["orders", "orders/new", "a-b_c.d~e/1", "x" * 200])
def test_a_path_is_what_events_find_it_by(path: str) -> None:
    assert WEBHOOK.check({"path": path})
    assert WEBHOOK.key({"path": path}) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/orders",
        "orders/",
        "a//b",
        "../a",
        "a/./b",
        "a b",
        "a?b",
        "a%2Fb",
        "é",
        "a\n",
        "{{ a }}",
        "x" * 201,
        None,
        5,
        "deliveries",
        "deliveries/1",
        "telegram/abc",
    ],
)
def test_a_path_that_no_address_can_have_is_refused(path: Json) -> None:
    with pytest.raises(Invalid) as refusal:
        WEBHOOK.check({"path": path})

    assert list(refusal.value.errors) == ["config.path"]


def test_names_that_only_begin_like_routes_of_ours_are_free() -> None:
    assert WEBHOOK.check({"path": "telegrams"})
    assert WEBHOOK.check({"path": "my/deliveries"})


@pytest.mark.parametrize("auth", ["secret", "hmac"])
def test_authentication_needs_a_secret(auth: str) -> None:
    with pytest.raises(Invalid) as refusal:
        WEBHOOK.check({"path": "orders", "auth": auth})

    assert list(refusal.value.errors) == ["config.secret"]
    assert WEBHOOK.check({"path": "orders", "auth": auth, "secret": SECRET})


def test_it_matches_its_path_and_methods() -> None:
    config = configured(methods=["POST", "PUT"])
    events = [
        TriggerEvent("webhook", {"path": path, "method": method})
        for path, method in [("orders", "POST"), ("orders", "PUT"), ("orders", "GET"), ("other", "POST")]
    ]

    assert [WEBHOOK.matches(config, event) for event in events] == [True, True, False, False]


@pytest.mark.parametrize(
    ("body", "payload"), [({"a": 1}, {"a": 1}), ([1], {"body": [1]}), ("text", {"body": "text"}), (None, {})]
)
def test_the_payload_is_always_an_object(body: Json, payload: Json) -> None:
    event = TriggerEvent("webhook", {"path": "orders", "method": "POST", "body": body, "query": {"q": "1"}})

    assert WEBHOOK.emit(configured(), event) == {
        "body": body,
        "headers": {},
        "query": {"q": "1"},
        "method": "POST",
        "payload": payload,
    }


def test_headers_with_secrets_do_not_reach_the_workflow() -> None:
    headers: Json = {
        "Content-Type": "application/json",
        "Authorization": "Bearer x",
        "Cookie": "x",
        "X-My-Secret": "x",
        "X-Hub-Signature-256": "x",
    }
    config = configured(auth="secret", secret=SECRET, secret_header="X-My-Secret")

    assert WEBHOOK.emit(config, TriggerEvent("webhook", {"headers": headers}))["headers"] == {
        "content-type": "application/json"
    }


def test_without_authentication_everybody_is_let_in() -> None:
    assert is_let_in(configured(), {})


@pytest.mark.parametrize(
    ("headers", "is_in"),
    [
        ({"X-Webhook-Secret": SECRET}, True),
        ({"x-webhook-secret": SECRET}, True),
        ({"Authorization": f"Bearer {SECRET}"}, True),
        ({"Authorization": f"bearer {SECRET}"}, True),
        ({}, False),
        ({"X-Webhook-Secret": ""}, False),
        ({"X-Webhook-Secret": SECRET[:-1]}, False),
        ({"X-Webhook-Secret": "ä\udcff"}, False),
        ({"Authorization": SECRET}, False),
        ({"Authorization": f"Basic {SECRET}"}, False),
    ],
)
def test_a_caller_shows_the_secret(headers: dict[str, str], is_in: bool) -> None:
    assert is_let_in(configured(auth="secret", secret=SECRET), headers) is is_in


@pytest.mark.parametrize(
    ("sent", "is_in"),
    [
        (signature(), True),
        (signature().upper(), True),
        ("sha256=" + signature(), True),
        (base64.b64encode(bytes.fromhex(signature())).decode(), True),
        (f"v1={signature(secret='an older one')},v1={signature()}", True),
        ("v1 " + signature(), True),
        ("", False),
        ("sha256=", False),
        ("sha256=" + signature(b"{}"), False),
        ("sha256=" + signature(secret="another"), False),
        ("é" * 64, False),
        ("=" * 5000, False),
    ],
)
def test_a_caller_signs_the_body(sent: str, is_in: bool) -> None:
    assert is_let_in(configured(auth="hmac", secret=SECRET), {"X-Hub-Signature-256": sent}) is is_in


@pytest.mark.parametrize(("minutes", "is_in"), [(0, True), (4, True), (-4, True), (6, False), (-6, False)])
def test_a_signature_with_a_time_does_not_last(minutes: float, is_in: bool) -> None:
    stamp = str(int(NOON.timestamp()))
    config = configured(auth="hmac", secret=SECRET, timestamp_header="X-Time")
    headers = {"X-Time": stamp, "X-Hub-Signature-256": signature(stamp.encode() + b"." + BODY)}

    assert is_let_in(config, headers, minutes=minutes) is is_in


@pytest.mark.parametrize("stamp", ["", "now", "1e300", "-1e300", "nan"])
def test_a_time_that_is_none_is_refused(stamp: str) -> None:
    config = configured(auth="hmac", secret=SECRET, timestamp_header="X-Time")
    headers = {"X-Time": stamp, "X-Hub-Signature-256": signature(stamp.encode() + b"." + BODY)}

    assert not is_let_in(config, headers)


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_a_signature_is_good_for_one_body(signed: bytes, sent: bytes) -> None:
    config = configured(auth="hmac", secret=SECRET)

    assert is_let_in(config, {"X-Hub-Signature-256": signature(signed)}, sent) is (signed == sent)


def test_a_webhook_whose_secret_is_missing_lets_nobody_in() -> None:
    config = WebhookConfig(path="orders", auth="secret")

    assert not is_let_in(config, {"X-Webhook-Secret": ""})
