"""The HTTP client against real servers: where it goes, and what it takes along."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from pipelit.errors import AddressRefused, ConfigError, UpstreamError, UpstreamRefused
from pipelit.integrations.http import HttpClient, HttpRequest
from tests.integrations.calls import LOCAL, get, refused
from tests.integrations.certificates import contexts
from tests.integrations.web import Asked, Web, plain, redirect, reply, serving


def test_a_call_sends_what_it_was_told_and_brings_the_whole_answer(client):
    def answer(handler, asked):
        reply(handler, 201, b"made", {"X-Thing": "1", "Set-Cookie": "a=b"})

    with serving(answer) as web:
        request = HttpRequest(
            "POST", web.url("/a%20b?x=%2F&y"), {"X-Key": "k"}, query=[("q", "é&"), ("q", "2")], body=b"\x00body"
        )
        response = client.send(request)

    assert (response.status, response.body, response.headers["x-thing"]) == (201, b"made", "1")
    assert response.url == web.url("/a%20b?x=%2F&y&q=%C3%A9%26&q=2")
    assert (web.last.method, web.last.path, web.last.body) == ("POST", "/a%20b?x=%2F&y&q=%C3%A9%26&q=2", b"\x00body")
    assert web.last.headers["host"] == f"127.0.0.1:{web.port}"
    assert web.last.headers["x-key"] == "k"


def test_connections_are_kept_and_one_that_was_closed_meanwhile_is_replaced(client):
    def answer(handler, asked):
        plain(handler, asked)
        handler.close_connection = asked.path == "/last"

    with serving(answer) as web:
        for path in ("/", "/", "/last"):
            client.send(get(web.url(path)))
        time.sleep(0.1)
        client.send(get(web.url()))

    kept, replaced = {asked.connection for asked in web.asked[:3]}, web.last.connection
    assert len(kept) == 1
    assert replaced not in kept


def test_nobody_there_is_a_failure_that_may_pass(client):
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        assert refused(client, get(f"http://127.0.0.1:{taken.getsockname()[1]}/")) is UpstreamError


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://LOCALHOST.:{port}/",
        "http://127.1:{port}/",
        "http://0x7f.0.0.1:{port}/",
        "http://2130706433:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://[::ffff:7f00:1]:{port}/",
        "http://0.0.0.0:{port}/",
        "http://[::]:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
    ],
)
def test_this_machine_and_its_network_cannot_be_called_however_they_are_written(url):
    with serving() as web, HttpClient() as client:
        assert refused(client, get(url.format(port=web.port))) is AddressRefused
        assert web.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "//x/", "ftp://example.org/", "file:///etc/passwd", "gopher://127.0.0.1/", "http://", "http:///x",
        "http://user@example.org/", "http://user:secret@example.org/", "http://ex\u2460ample.org/", "http://xn--/",
        "http://example.org:0/", "http://example.org:99999/", "http://example.org:port/", "http://[::1/", "http://./",
        "http://[::1]x/", "http://0177.0.0.1/", "http://a\r\nHost:b/", "http://example.org/" + "x" * 20_000,
        "http://\ud800/",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_called_is_a_configuration_error(client, url):
    assert refused(client, get(url)) is ConfigError


@pytest.mark.parametrize(
    "request_",
    [
        HttpRequest("CONNECT", "http://127.0.0.1/"),
        HttpRequest("get", "http://127.0.0.1/"),
        HttpRequest("GET", "http://127.0.0.1/", {"Host": "internal"}),
        HttpRequest("GET", "http://127.0.0.1/", {"Content-Length": "5"}),
        HttpRequest("GET", "http://127.0.0.1/", {"transfer-encoding ": "chunked"}),
        HttpRequest("GET", "http://127.0.0.1/", {"Proxy-Authorization": "x"}),
        HttpRequest("GET", "http://127.0.0.1/", {"X": "é"}),
    ],
)
def test_what_frames_or_aims_a_message_is_not_the_callers_to_choose(client, request_):
    assert refused(client, request_) is ConfigError


def test_a_header_cannot_smuggle_another_one(client):
    with serving() as web:
        for headers in ({"X": "a\r\nY: b"}, {"X\r\nY": "b"}, {"": "b"}, {"X Y": "b"}, {"X": "a\x00b"}):
            assert refused(client, HttpRequest("GET", web.url(), headers)) is ConfigError
        assert web.asked == []


def test_one_forbidden_address_among_a_names_addresses_closes_all_of_them():
    asked: list[str] = []

    def resolver(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1", "10.0.0.1"]

    with serving() as web, HttpClient(LOCAL, resolver=resolver) as client:
        assert refused(client, get(web.url(host="mixed.example.org"))) is AddressRefused
        assert web.asked == []
    assert asked == ["mixed.example.org"]


def test_the_address_that_was_judged_is_the_one_connected_to_though_the_next_answer_differs():
    answers = iter([["127.0.0.2"], ["127.0.0.1"], ["10.0.0.1"]])

    with serving(host="127.0.0.2") as web, HttpClient(("127.0.0.2",), resolver=lambda *_: next(answers)) as client:
        assert client.send(get(web.url(host="rebinding.example.org"))).status == 200
        assert web.last.headers["host"] == f"rebinding.example.org:{web.port}"
        client.close()
        assert refused(client, get(web.url(host="rebinding.example.org"))) is AddressRefused
        assert next(answers) == ["10.0.0.1"]


def test_a_name_the_operator_allowed_may_be_private():
    with serving() as web, HttpClient(("*.intern",), resolver=lambda *_: ["127.0.0.1"]) as client:
        assert client.send(get(web.url(host="api.intern"))).status == 200
        assert refused(client, get(web.url(host="api.extern"))) is AddressRefused


def test_the_next_address_is_tried_when_one_does_not_answer():
    with serving() as web, HttpClient(LOCAL, resolver=lambda *_: ["127.0.0.9", "127.0.0.1"]) as client:
        assert client.send(get(web.url(host="two.example.org"))).status == 200


def test_a_name_that_is_not_there_may_be_there_later(client):
    def resolver(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    with HttpClient(resolver=resolver) as lost:
        assert refused(lost, get("http://nobody.example.org/")) is UpstreamError


def test_proxies_of_the_environment_are_ignored(client, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")

    with serving() as web:
        assert client.send(get(web.url())).status == 200


def test_redirects_are_followed_and_judged_one_by_one(client):
    def answer(handler, asked):
        match asked.path:
            case "/inside":
                redirect(handler, "http://169.254.169.254/latest/meta-data/")
            case "/file":
                redirect(handler, "file:///etc/passwd")
            case "/user":
                redirect(handler, "http://user:pw@127.0.0.1/")
            case "/broken":
                redirect(handler, "http://[::1/")
            case "/round":
                redirect(handler, "/round")
            case "/relative":
                redirect(handler, "plain?x=1")
            case _:
                plain(handler, asked)

    with serving(answer) as web:
        for path in ("/inside", "/file", "/user", "/broken"):
            assert refused(client, get(web.url(path))) is AddressRefused
        assert refused(client, get(web.url("/round"))) is UpstreamRefused
        assert len([asked for asked in web.asked if asked.path == "/round"]) == 6
        assert client.send(get(web.url("/relative"))).url == web.url("/plain?x=1")
        stayed = client.send(get(web.url("/relative"), follow_redirects=False))
        assert (stayed.status, stayed.headers["location"]) == (302, "plain?x=1")


@pytest.mark.parametrize(
    ("status", "method", "following"),
    [
        (301, "POST", ("GET", b"")),
        (302, "POST", ("GET", b"")),
        (302, "PUT", ("PUT", b"body")),
        (303, "PUT", ("GET", b"")),
        (303, "HEAD", ("HEAD", b"")),
        (307, "POST", ("POST", b"body")),
        (308, "POST", ("POST", b"body")),
    ],
)
def test_a_redirect_keeps_the_method_or_turns_it_to_get_as_browsers_do(client, status, method, following):
    def answer(handler, asked):
        if asked.path == "/":
            redirect(handler, "/next", status)
        else:
            plain(handler, asked)

    with serving(answer) as web:
        body = b"" if method == "HEAD" else b"body"
        client.send(HttpRequest(method, web.url(), {"Content-Type": "a/b", "X-Key": "k"}, body=body))

    assert (web.last.method, web.last.body) == following
    assert ("content-type" in web.last.headers) == (following[0] != "GET")
    assert web.last.headers["x-key"] == "k"


def test_what_may_be_a_secret_stays_with_the_origin_it_was_meant_for(client):
    def answer(handler, asked):
        redirect(handler, f"http://127.0.0.1:{other.port}/elsewhere", 307)

    secrets = {"Authorization": "Bearer s", "Cookie": "c=s", "X-Api-Key": "s", "Accept": "a/b", "Idempotency-Key": "i"}
    with serving() as other, serving(answer) as web:
        client.send(HttpRequest("POST", web.url(), secrets, body=b"{}"))

    assert web.last.headers["authorization"] == "Bearer s"
    assert not {"authorization", "cookie", "x-api-key"} & other.last.headers.keys()
    assert (other.last.headers["accept"], other.last.headers["idempotency-key"]) == ("a/b", "i")


@pytest.fixture
def trusted(tmp_path: Path) -> Iterator[tuple[Web, HttpClient]]:
    """A server with a certificate for `api.example.org`, and a client that trusts it and finds it."""
    server, checking = contexts(tmp_path, "api.example.org")

    def answer(handler, asked: Asked) -> None:
        if asked.path.startswith("/down"):
            redirect(handler, f"http://127.0.0.1:{unsafe.port}/", 307)
        else:
            plain(handler, asked)

    with (
        serving() as unsafe,
        serving(answer, tls=server) as web,
        HttpClient(LOCAL, resolver=lambda *_: ["127.0.0.1"], ssl_context=checking) as client,
    ):
        yield web, client


def test_certificates_are_checked_against_the_name_though_the_address_is_pinned(trusted):
    web, client = trusted

    assert client.send(get(web.url(host="api.example.org"))).body == b"fine"
    assert refused(client, get(web.url(host="other.example.org"))) is UpstreamRefused
    assert refused(client, get(web.url(host="127.0.0.1"))) is UpstreamRefused
    with HttpClient(LOCAL, resolver=lambda *_: ["127.0.0.1"]) as distrustful:
        assert refused(distrustful, get(web.url(host="api.example.org"))) is UpstreamRefused


def test_encryption_is_not_given_up_with_anything_secret_in_hand(trusted):
    web, client = trusted
    url = web.url("/down", host="api.example.org")

    assert client.send(get(url)).body == b"fine"
    assert refused(client, HttpRequest("GET", url, {"Authorization": "x"})) is AddressRefused
    assert refused(client, HttpRequest("GET", url, {"X-Api-Key": "x"})) is AddressRefused
    assert refused(client, HttpRequest("POST", url, body=b"secret")) is AddressRefused


def test_an_encrypted_answer_larger_than_a_record_arrives_whole(trusted):
    web, client = trusted

    response = client.send(HttpRequest("POST", web.url(host="api.example.org"), body=b"x" * 3_000_000))

    assert response.body == b"fine"
    assert web.last.body == b"x" * 3_000_000


def test_many_threads_share_a_client(client):
    def answer(handler, asked):
        reply(handler, body=asked.path.encode())

    found: list[bool] = []

    def calls(name: int) -> None:
        found.extend(client.send(get(web.url(f"/{name}"))).body == b"/%d" % name for _ in range(10))

    with serving(answer) as web:
        threads = [Thread(target=calls, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert found == [True] * 80


def test_under_gevent_calls_run_side_by_side_and_can_be_cancelled():
    story = """
from gevent import monkey; monkey.patch_all()
import gevent, threading
from pipelit.errors import StepCancelled
from pipelit.integrations.http import HttpClient, HttpRequest
from tests.integrations.web import serving, reply
together, never = threading.Barrier(20), threading.Event()
def answer(handler, asked):
    together.wait(40) if asked.path == "/" else never.wait(40)
    reply(handler, body=b"fine")
with serving(answer) as web, HttpClient(("127.0.0.0/8",), resolver=lambda *_: ["127.0.0.1"]) as client:
    url = web.url(host="name.example.org")
    calls = [gevent.spawn(client.send, HttpRequest("GET", url)) for _ in range(20)]
    stop = []
    def doomed():
        try: client.send(HttpRequest("GET", url + "slow"), lambda: bool(stop))
        except StepCancelled: return "cancelled"
    slow = gevent.spawn(doomed)
    assert [call.get().body for call in calls] == [b"fine"] * 20
    stop.append(1)
    assert slow.get(timeout=40) == "cancelled"
    never.set()
print("side by side")
"""
    run = subprocess.run(
        [sys.executable, "-c", story], capture_output=True, text=True, timeout=60, check=False, cwd=Path.cwd()
    )

    assert "side by side" in run.stdout, run.stderr
