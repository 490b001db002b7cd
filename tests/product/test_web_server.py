"""How the web server ends, seen by those who are connected to it."""

import http.client
import os
import signal
import socket

import pytest
import websocket

from tests.support.product import Product, wait_until

pytestmark = pytest.mark.product


def test_on_sigterm_sockets_are_told_to_come_back_and_idle_clients_do_not_hold_it_up(new_product: Product):
    new_product.start()
    new_product.set_up()
    server = new_product.pid_of("gunicorn")
    live = websocket.create_connection(f"ws://127.0.0.1:{new_product.port}/ws/?token={new_product.key}", timeout=60)
    live.send('{"type": "subscribe", "channel": "workflow:nothing"}')
    live.recv()
    idle = http.client.HTTPConnection("127.0.0.1", new_product.port, timeout=60)
    idle.request("GET", "/api/v1/health/")
    idle.getresponse().read()

    os.kill(server, signal.SIGTERM)

    frame = live.recv_frame()
    assert frame.opcode == websocket.ABNF.OPCODE_CLOSE
    assert int.from_bytes(frame.data[:2], "big") == 1012
    wait_until(lambda: server not in new_product.processes(), "the server has ended")
    assert "when patience ended" not in new_product.log("web")
    live.close()
    idle.close()


def test_a_request_in_progress_is_answered_before_the_server_ends(new_product: Product):
    new_product.start()
    new_product.set_up()
    server = new_product.pid_of("gunicorn")
    body = b'{"username": "first", "password": "a long password"}'
    head = f"POST /api/v1/auth/token/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"

    with socket.create_connection(("127.0.0.1", new_product.port), timeout=60) as asking:
        asking.sendall(f"{head}Content-Type: application/json\r\nExpect: 100-continue\r\n\r\n".encode())
        assert b" 100 " in asking.recv(100), "the server waits for the rest of the request"
        os.kill(server, signal.SIGTERM)
        asking.sendall(body)
        answer = asking.recv(100)

    assert answer.startswith(b"HTTP/1.1 200 ")
    wait_until(lambda: server not in new_product.processes(), "the server has ended")


def test_while_the_only_web_process_is_replaced_callers_wait_and_nobody_is_refused(new_product: Product):
    new_product.start()
    first, killed = sorted(serving(new_product))

    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: killed not in serving(new_product), "the process has ended")
    answer = new_product.call("GET", "/api/v1/health/")

    assert answer.status == 200
    assert first in serving(new_product)


def serving(product: Product) -> list[int]:
    """gunicorn's first process, and those that it has started."""
    return [pid for pid, command in product.processes().items() if "gunicorn" in command]
