"""How the web server ends, seen by those who are connected to it."""

import http.client
import os
import signal
import threading
import time

import pytest
import websocket

from tests.support.product import Product, wait_until

pytestmark = pytest.mark.product


def test_on_sigterm_sockets_are_told_to_come_back_and_idle_clients_do_not_hold_it_up(new_product: Product):
    new_product.start()
    new_product.set_up()
    server = new_product.pid_of("gunicorn")
    live = websocket.create_connection(f"ws://127.0.0.1:{new_product.port}/ws/?token={new_product.key}", timeout=10)
    live.send('{"type": "subscribe", "channel": "workflow:nothing"}')
    live.recv()
    idle = http.client.HTTPConnection("127.0.0.1", new_product.port, timeout=10)
    idle.request("GET", "/api/v1/health/")
    idle.getresponse().read()

    told_at = time.monotonic()
    os.kill(server, signal.SIGTERM)

    frame = live.recv_frame()
    assert frame.opcode == websocket.ABNF.OPCODE_CLOSE
    assert int.from_bytes(frame.data[:2], "big") == 1012
    wait_until(lambda: server not in new_product.processes(), "the server has ended")
    # The target is 2 s on a quiet machine; with its usual patience it would be 8.
    assert time.monotonic() - told_at < 6
    live.close()
    idle.close()


def test_a_request_in_progress_is_answered_before_the_server_ends(new_product: Product):
    new_product.start()
    new_product.set_up()
    answers: list[int] = []
    body = {"username": "first", "password": "a long password"}
    asking = threading.Thread(
        target=lambda: answers.append(new_product.call("POST", "/api/v1/auth/token/", body).status)
    )

    asking.start()
    time.sleep(0.02)
    os.kill(new_product.pid_of("gunicorn"), signal.SIGTERM)
    asking.join(timeout=20)

    assert answers == [200]
