"""Who gets a connection, what they may say on it, and how it ends."""

import json
import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest
import websocket
from flask import Flask

from pipelit import clock
from pipelit.api.live import Limits, Live
from pipelit.engine import broadcast
from tests.live.conftest import Connect, Watcher, wait_until
from tests.support.callers import Caller

CHANNEL = "workflow:sales"


@pytest.fixture
def limits() -> Limits:
    return Limits(
        connections=30,
        subscriptions=3,
        message_bytes=2048,
        authentication=0.5,
        ping=0.3,
        blocked=0.5,
        farewell=0.3,
    )


@pytest.fixture
def sales(admin: Caller) -> str:
    """The channel of a workflow that everybody may see."""
    made = admin.post("/workflows/", {"name": "Sales", "slug": "sales", "is_public": True})
    assert made.status_code == 201, made.text
    return CHANNEL


@pytest.mark.parametrize("key", ["", "nonsense", "pl_nobody", "\x00"])
def test_a_wrong_key_is_turned_away_before_anything_is_said(connect: Connect, key: str) -> None:
    watcher = connect(key.replace("\x00", "%00"))

    opcode, payload = watcher.socket.recv_data(control_frame=True)

    assert (opcode, int.from_bytes(payload[:2])) == (websocket.ABNF.OPCODE_CLOSE, 4401)


def test_the_key_may_come_as_the_first_message(connect: Connect, admin: Caller, sales: str) -> None:
    watcher = connect()

    watcher.say(type="auth", token=admin.key)

    watcher.subscribe(sales)


@pytest.mark.parametrize(
    "first",
    ['{"type":"subscribe","channel":"workflow:sales"}', '{"type":"auth"}', '{"type":"auth","token":"pl_x"}', "?"],
)
def test_whoever_does_not_say_who_they_are_first_is_turned_away(connect: Connect, first: str) -> None:
    watcher = connect()

    watcher.socket.send(first)

    assert watcher.closed_with() == 4401


def test_whoever_never_says_who_they_are_is_turned_away(connect: Connect, live: Live) -> None:
    live.limits = replace(live.limits, authentication=0.2)

    assert connect().closed_with() == 4401


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[]",
        "null",
        '"subscribe"',
        "{}",
        '{"type":1}',
        '{"type":"shout"}',
        '{"type":"subscribe"}',
        '{"type":"subscribe","channel":7}',
        '{"type":"subscribe","channel":"everything"}',
        '{"type":"subscribe","channel":"workflow:sales","after":-1}',
        '{"type":"subscribe","channel":"workflow:sales","after":true}',
        '{"type":"subscribe","channel":"workflow:sales","since":1}',
        '{"type":"subscribe","channel":"\\ud800"}',
        '{"type":"subscribe","channel":"workflow:sales","after":' + "9" * 1000 + "}",
        "[" * 1500,
    ],
)
def test_a_message_that_makes_no_sense_is_answered_and_the_connection_lives(
    connect: Connect, admin: Caller, sales: str, message: str
) -> None:
    watcher = connect(admin.key)

    watcher.socket.send(message)

    answer = watcher.hear()
    assert (answer["type"], answer["code"], bool(answer["detail"])) == ("error", "invalid", True)
    watcher.subscribe(sales)


def test_a_binary_message_is_refused(connect: Connect, admin: Caller) -> None:
    watcher = connect(admin.key)

    watcher.socket.send_binary(b"\x00\xff")

    assert watcher.hear()["code"] == "invalid"


def test_a_message_that_is_too_long_ends_the_connection(connect: Connect, admin: Caller) -> None:
    watcher = connect(admin.key)

    watcher.socket.send("x" * 3000)

    assert watcher.closed_with() == 1009


def test_there_are_only_so_many_subscriptions(connect: Connect, admin: Caller, sales: str) -> None:
    for slug in ("one", "two", "three"):
        assert admin.post("/workflows/", {"name": slug, "slug": slug}).status_code == 201
    watcher = connect(admin.key)
    for slug in ("one", "two", "three"):
        watcher.subscribe(f"workflow:{slug}")

    watcher.say(type="subscribe", channel=sales)

    assert watcher.hear()["code"] == "too_many_subscriptions"
    watcher.subscribe("workflow:two")
    watcher.say(type="unsubscribe", channel="workflow:two")
    assert watcher.hear()["type"] == "unsubscribed"
    watcher.subscribe(sales)


def test_whoever_answers_pings_stays(connect: Connect, admin: Caller) -> None:
    watcher = connect(admin.key)

    for _ in range(6):
        assert watcher.hear() == {"type": "ping"}
        watcher.say(type="pong")


def test_a_subscription_ends_when_what_it_watches_is_no_longer_there(connect: Connect, admin: Caller) -> None:
    slug = admin.post("/workflows/", {"name": "Private"}).json["slug"]
    watcher = connect(admin.key)
    watcher.subscribe(f"workflow:{slug}")

    admin.delete(f"/workflows/{slug}/")

    heard = [watcher.hear() for _ in range(3)]
    refusal = next(message for message in heard if message["type"] == "error")
    assert (refusal["channel"], refusal["code"]) == (f"workflow:{slug}", "not_found")


def test_whoever_misses_two_pings_is_let_go(connect: Connect, admin: Caller) -> None:
    watcher = connect(admin.key)

    assert [watcher.hear(), watcher.hear()] == [{"type": "ping"}] * 2

    assert watcher.closed_with() == 1008


def test_a_key_that_is_taken_away_closes_its_connections(
    connect: Connect, admin: Caller, sales: str, live: Live
) -> None:
    live.limits = replace(live.limits, missed_pongs=1000)
    watcher = connect(admin.key)
    watcher.subscribe(sales)
    key = admin.get("/users/me/keys/").json["items"][0]

    assert admin.delete(f"/users/me/keys/{key['id']}/").status_code == 204

    assert watcher.closed_with() == 4401


def test_somebody_who_does_not_read_is_let_go_and_others_do_not_notice(
    app: Flask, connect: Connect, admin: Caller, sales: str, live: Live
) -> None:
    live.limits = replace(live.limits, ping=30)
    lazy, keen = connect(admin.key, sockopt=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)]), connect(admin.key)
    lazy.subscribe(sales)
    keen.subscribe(sales)
    text = "x" * 200_000

    until = time.monotonic() + 60
    while live.connections == 2 and time.monotonic() < until:
        broadcast.publish(app.extensions["pipelit.redis"], sales, "workflow_updated", {"text": text}, clock.now())
        assert keen.hear()["data"]["text"] == text

    wait_until(lambda: live.connections == 1)
    broadcast.publish(app.extensions["pipelit.redis"], sales, "workflow_updated", {"text": "still here"}, clock.now())
    assert keen.hear()["data"]["text"] == "still here"
    assert _end_of(lazy) in (1013, None)


def test_one_connection_too_many_is_refused(connect: Connect, admin: Caller, live: Live) -> None:
    there = [connect(admin.key) for _ in range(30)]
    wait_until(lambda: live.connections == 30)

    assert connect(admin.key).closed_with() == 1013
    for each in there:
        each.socket.close()
    wait_until(lambda: live.connections == 0)
    connect(admin.key)


def test_idle_connections_hold_no_database_connection(connect: Connect, admin: Caller, live: Live, sales: str) -> None:
    for _ in range(30):
        connect(admin.key).subscribe(sales)

    for _ in range(45):
        assert admin.get("/workflows/sales/").status_code == 200


def test_when_the_server_stops_everybody_is_told_to_come_back(connect: Connect, admin: Caller, live: Live) -> None:
    there = [connect(admin.key) for _ in range(10)]

    live.close()

    assert [watcher.closed_with() for watcher in there] == [1012] * 10
    assert connect(admin.key).closed_with() == 1012


def test_a_client_that_just_goes_leaves_nothing_behind(
    connect: Connect, admin: Caller, sales: str, live: Live, app: Flask
) -> None:
    watcher = connect(admin.key)
    watcher.subscribe(sales)

    watcher.socket.shutdown()

    wait_until(lambda: live.connections == 0)
    wait_until(lambda: app.extensions["pipelit.redis"].pubsub_numsub(broadcast.PREFIX + sales)[0][1] == 0)


def test_compression_is_not_agreed_to(connect: Connect, admin: Caller) -> None:
    watcher = connect(admin.key, header=["Sec-WebSocket-Extensions: permessage-deflate"])

    assert "sec-websocket-extensions" not in {name.lower() for name in watcher.socket.getheaders()}


def test_plain_http_is_told_what_this_is(address: str, anonymous: Caller) -> None:
    plain = anonymous.client.get("/ws/")
    assert (plain.status_code, plain.content_type) == (400, "application/problem+json")
    with socket.create_connection(address.split(":"), timeout=60) as raw:
        raw.sendall(b"GET /ws/ HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        answer = raw.makefile("rb").read().decode()
    assert "400" in answer.splitlines()[0]
    assert json.loads(answer.split("\r\n\r\n")[1])["status"] == 400


def _end_of(watcher: Watcher) -> int | None:
    """The code that the connection was closed with; None if it was cut in the middle of a message."""
    try:
        return watcher.closed_with()
    except (websocket.WebSocketException, ConnectionError):
        return None


def test_somebody_who_talks_all_the_time_is_told_to_come_back_too(
    connect: Connect, admin: Caller, sales: str, live: Live
) -> None:
    watchers = [connect(admin.key) for _ in range(5)]
    stop = threading.Event()

    def talk(watcher: Watcher) -> None:
        with suppress(websocket.WebSocketException, OSError):
            while not stop.is_set():
                watcher.say(type="subscribe", channel=sales)
                time.sleep(0.005)

    talkers = [threading.Thread(target=talk, args=(watcher,)) for watcher in watchers]
    for talker in talkers:
        talker.start()
    wait_until(lambda: live.connections == 5)

    live.close()

    wait_until(lambda: live.connections == 0)
    stop.set()
    for talker in talkers:
        talker.join()
