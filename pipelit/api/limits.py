"""How often somebody may try to guess, counted in Redis for all processes together."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from flask import current_app, request
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import FixedWindowRateLimiter

from pipelit import clock
from pipelit.errors import Invalid, TooManyRequests, Unauthorized

EXTENSION = "pipelit.limiter"

PER_NAME = RateLimitItemPerMinute(10, namespace="pipelit:limits")
"""Tries for one account. Strict: counted before the try, given back when it succeeds."""

PER_ADDRESS = RateLimitItemPerMinute(60, namespace="pipelit:limits")
"""Failures from one address, whatever the account: somebody who tries one password on all of them."""


@contextmanager
def guessing(kind: str, account: str) -> Iterator[None]:
    """A try that may fail: too many failures in a minute are refused before they cost anything.

    `kind` keeps passwords and codes apart, so that a right password does not buy new tries at the code.
    """
    limiter = _limiter()
    name = (kind, hashlib.sha256(account.encode()).hexdigest())
    address = (kind, request.remote_addr or "")
    if not limiter.test(PER_ADDRESS, *address):
        raise _too_many(limiter, PER_ADDRESS, address)
    if not limiter.hit(PER_NAME, *name):
        raise _too_many(limiter, PER_NAME, name)
    try:
        yield
    except (Unauthorized, Invalid):
        limiter.hit(PER_ADDRESS, *address)
        raise
    limiter.clear(PER_NAME, *name)


def _limiter() -> FixedWindowRateLimiter:
    """Made with the first try: its library loads clients of every server it might count in, 2.5 MB in each process."""
    found: FixedWindowRateLimiter | None = current_app.extensions.get(EXTENSION)
    if found is None:
        pool = current_app.extensions["pipelit.redis"].connection_pool
        storage = RedisStorage("redis://", connection_pool=pool, key_prefix="pipelit:limits")
        found = current_app.extensions[EXTENSION] = FixedWindowRateLimiter(storage)
    return found


def _too_many(limiter: FixedWindowRateLimiter, limit: RateLimitItem, who: tuple[str, str]) -> TooManyRequests:
    """Seconds are rounded up: whoever waits as long as we say gets through."""
    left = limiter.get_window_stats(limit, *who).reset_time - clock.now().timestamp()
    return TooManyRequests("Too many failed tries. Wait a moment.", after=max(1, int(left) + 1))
