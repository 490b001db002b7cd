"""Hashing: right, slow enough, equally slow for everybody, and out of the way of other requests."""

import subprocess
import sys

from pipelit.services import passwords

UNDER_GEVENT = """
from gevent import monkey; monkey.patch_all()
import gevent, time
from pipelit.services import passwords

stored = passwords.make_hash("secret")
ticks = []

def ticker():
    while True:
        ticks.append(time.perf_counter())
        gevent.sleep(0.001)

clock = gevent.spawn(ticker)
gevent.sleep(0.01)
before = len(ticks)
assert passwords.matches("secret", stored) and not passwords.matches("Secret", stored)
print(len(ticks) - before)
"""


def test_a_password_matches_its_own_hash_only() -> None:
    stored = passwords.make_hash("correct horse battery")

    assert passwords.matches("correct horse battery", stored)
    assert not passwords.matches("correct horse batterz", stored)
    assert passwords.make_hash("correct horse battery") != stored


def test_nothing_matches_where_nothing_is_stored() -> None:
    assert not passwords.matches("", None)
    assert not passwords.matches("anything", None)
    assert not passwords.matches("anything", "not a hash")


def test_unknown_users_cost_as_much_as_known_ones() -> None:
    assert passwords.HASHER.check_needs_rehash(passwords.NOBODY) is False


def test_under_gevent_other_requests_go_on_while_a_password_is_hashed() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", UNDER_GEVENT], capture_output=True, text=True, timeout=60, check=True
    )

    assert int(finished.stdout) >= 3, "the event loop stood still"
