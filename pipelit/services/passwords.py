"""Passwords are hashed with Argon2id, away from the event loop, and checked in the same time whoever is asked for."""

import sys
from collections.abc import Callable
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

T = TypeVar("T")

HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
"""OWASP's smallest recommended cost: 19 MiB, so that a burst of sign-ins does not fill a small machine."""

NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$JBLBxOHXnGOnWbaUbeCvkg$fg4bnS6tC0jC7NTitTpqN+JBz8Wucwfdf1APU2STNho"
"""The hash, at the same cost, of a password nobody kept: checked for unknown users, who then take as long as others."""


def make_hash(password: str) -> str:
    """What to store of a password."""
    return _off_the_loop(lambda: HASHER.hash(password))


def matches(password: str, stored: str | None) -> bool:
    """Whether a password is the one whose hash is stored; with nothing stored the answer is no, in the same time."""

    def check() -> bool:
        try:
            HASHER.verify(stored or NOBODY, password)
        except (VerificationError, InvalidHashError):
            return False
        return stored is not None

    return _off_the_loop(check)


def _off_the_loop(work: Callable[[], T]) -> T:
    """Under gevent every other request would wait for a hash that is computed in the event loop's own thread."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("socket"):
        return work()
    # Imported here because only the web server runs under gevent; a worker would pay for it in memory.
    from gevent import get_hub  # noqa: PLC0415

    result: T = get_hub().threadpool.apply(work)
    return result
