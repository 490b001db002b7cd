"""From a command line to a running product and back to nothing."""

import os
import signal

import pytest

from tests.support.product import Product, wait_until

pytestmark = pytest.mark.product

PROGRAMS = (
    ("supervisor.supervisord",),
    ("valkey-server",),
    ("gunicorn",),
    ("worker", "steps"),
    ("worker", "system"),
)


def test_one_command_starts_everything_and_says_what_to_do_next(new_product: Product):
    new_product.start()

    wait_until(lambda: "Pipelit is ready." in new_product.said(), "the announcement")
    assert f"{new_product.url}/" in new_product.said()
    assert f"curl {new_product.url}/api/v1/auth/setup/" in new_product.said()
    for words in PROGRAMS:
        assert new_product.pid_of(*words)


def test_ctrl_c_leaves_nothing_behind_and_the_next_start_has_all_data(new_product: Product):
    new_product.start()
    new_product.set_up()

    assert new_product.stop() == 0
    assert new_product.processes() == {}
    assert "Traceback" not in new_product.said()

    new_product.start()
    assert new_product.call("GET", "/api/v1/auth/me/").body["username"] == "first"


def test_sigterm_to_the_first_process_stops_everything_too(new_product: Product):
    new_product.start()

    os.kill(new_product.pid, signal.SIGTERM)

    wait_until(
        lambda: not new_product.processes(), "every process has ended", or_else=lambda: str(new_product.processes())
    )


def test_when_the_supervisor_is_killed_nothing_lives_on_and_the_next_start_works(new_product: Product):
    new_product.start()
    new_product.set_up()

    new_product.kill()

    wait_until(
        lambda: not new_product.processes(), "every process has ended", or_else=lambda: str(new_product.processes())
    )
    new_product.start()
    assert new_product.call("GET", "/api/v1/auth/me/").status == 200


def test_whatever_dies_is_started_again(new_product: Product):
    new_product.start()
    new_product.set_up()

    for words in PROGRAMS[1:]:
        victim = new_product.pid_of(*words)
        os.kill(victim, signal.SIGKILL)
        wait_until(
            lambda words=words, victim=victim: any(
                pid != victim and all(word in command for word in words)
                for pid, command in new_product.processes().items()
            ),
            f"{words} runs again",
        )

    wait_until(lambda: is_ready(new_product), "the product is ready again")
    assert new_product.call("GET", "/api/v1/auth/me/").status == 200


def is_ready(product: Product) -> bool:
    try:
        return product.call("GET", "/api/v1/health/ready/").status == 200
    except OSError:
        return False
