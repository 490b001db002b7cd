"""How much the HTTP client takes in, how long it waits, and how it is stopped."""

import gzip
import os
import socket
import time
import zlib
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from threading import Event, Thread

import pytest

from pipelit.errors import PipelitError, StepCancelled, StepTimeout, UpstreamError, UpstreamRefused
from pipelit.integrations.http import HttpClient, HttpRequest, HttpResponse
from tests.integrations.calls import LOCAL, get, refused
from tests.integrations.web import reply, serving


def test_an_answer_beyond_the_limit_is_not_read():
    def answer(handler, asked):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(10_000):
            handler.wfile.write(b"x" * 10_000)

    with serving(answer) as web, HttpClient(LOCAL, max_bytes=100_000) as client:
        assert refused(client, get(web.url())) is UpstreamRefused


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "raw deflate", "two members"])
def test_compressed_answers_are_unpacked_up_to_the_limit(encoding):
    def packed(text: bytes) -> bytes:
        raw = zlib.compressobj(wbits=-15)
        match encoding:
            case "deflate":
                return zlib.compress(text)
            case "raw deflate":
                return raw.compress(text) + raw.flush()
            case "two members":
                return gzip.compress(text[:100]) + gzip.compress(text[100:])
            case _:
                return gzip.compress(text)

    def answer(handler, asked):
        name = {"raw deflate": "deflate", "two members": "gzip"}.get(encoding, encoding)
        body = packed(b"hello " * 1000 if asked.path == "/" else b"\x00" * 50_000_000)
        reply(handler, body=body[:-9] if asked.path == "/cut" else body, headers={"Content-Encoding": name})

    with serving(answer) as web, HttpClient(LOCAL, max_bytes=1_000_000) as client:
        assert client.send(get(web.url())).body == b"hello " * 1000
        assert refused(client, get(web.url("/bomb"))) is UpstreamRefused
        assert client.send(HttpRequest("HEAD", web.url())).body == b""


def test_damaged_and_unknown_compression():
    def answer(handler, asked):
        match asked.path:
            case "/cut":
                reply(handler, body=gzip.compress(os.urandom(1000))[:-9], headers={"Content-Encoding": "gzip"})
            case "/wrong":
                reply(handler, body=b"\x1f\x8bnot gzip at all", headers={"Content-Encoding": "gzip"})
            case "/nested":
                bomb = gzip.compress(gzip.compress(b"\x00" * 10_000_000))
                reply(handler, body=bomb, headers={"Content-Encoding": "gzip, gzip"})
            case _:
                reply(handler, body=b"as it came", headers={"Content-Encoding": "br"})

    with serving(answer) as web, HttpClient(LOCAL, max_bytes=100_000) as client:
        assert refused(client, get(web.url("/cut"))) is UpstreamError
        assert refused(client, get(web.url("/wrong"))) is UpstreamError
        assert len(client.send(get(web.url("/nested"))).body) < 1000
        assert client.send(get(web.url("/br"))).body == b"as it came"


def silent(handler, asked) -> None:
    time.sleep(3)


def dripping(handler, asked) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.03)


@pytest.mark.parametrize("answer", [silent, dripping])
def test_the_time_limit_is_for_the_whole_call(client, answer):
    with serving(answer) as web:
        started = time.monotonic()
        assert refused(client, get(web.url(), timeout=0.6)) is StepTimeout
        assert time.monotonic() - started < 1.5


def test_the_time_limit_holds_while_connecting_resolving_and_shaking_hands():
    release = Event()

    def resolver(host: str, port: int) -> Sequence[str]:
        release.wait(5)
        return ["127.0.0.1"]

    with closing(socket.create_server(("127.0.0.1", 0), backlog=8)) as mute:
        port = mute.getsockname()[1]
        with HttpClient(LOCAL) as client:
            assert refused(client, get(f"https://127.0.0.1:{port}/", timeout=0.4)) is StepTimeout
            body = b"x" * 20_000_000
            request = HttpRequest("POST", f"http://127.0.0.1:{port}/", body=body, timeout=0.4)
            assert refused(client, request) is StepTimeout
    with HttpClient(LOCAL, resolver=resolver) as client:
        assert refused(client, get("http://slow.example.org/", timeout=0.4)) is StepTimeout
        release.set()


@pytest.mark.parametrize("answer", [silent, dripping])
def test_a_cancelled_call_ends_within_two_seconds(client, answer):
    cancelled = Event()
    ended: list[PipelitError] = []

    def call() -> None:
        with pytest.raises(StepCancelled) as error:
            client.send(get(web.url()), cancelled.is_set)
        ended.append(error.value)

    with serving(answer) as web:
        thread = Thread(target=call)
        thread.start()
        time.sleep(0.3)
        started = time.monotonic()
        cancelled.set()
        thread.join()
        assert time.monotonic() - started < 1
    assert ended


def test_an_answer_that_breaks_off_may_be_whole_the_next_time(client):
    def answer(handler, asked):
        if asked.path == "/nothing":
            handler.close_connection = True
            return
        if asked.path == "/garbage":
            handler.wfile.write(b"garbage\r\n\r\n")
            handler.close_connection = True
            return
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"too little")
        handler.close_connection = True

    with serving(answer) as web:
        for path in ("/nothing", "/garbage", "/short"):
            assert refused(client, get(web.url(path))) is UpstreamError


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7.0),
        ("Sat, 14 Mar 2026 12:00:30 GMT", 30.0),
        ("Sat, 14 Mar 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("99999999999", None),
        ("", None),
    ],
)
def test_how_long_the_other_side_asks_to_wait(said, seconds):
    response = HttpResponse(503, {"retry-after": said}, b"", "http://x/")

    assert response.retry_after(datetime(2026, 3, 14, 12, 0, tzinfo=UTC)) == seconds
