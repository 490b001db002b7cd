"""The baseline: a Celery application that does nothing but hand on, under the very settings that Pipelit runs on."""

import os
import sys

from celery import Celery
from redis import Redis

import celeryconfig
from pipelit.config import Settings

QUEUE = "bare"
DONE = "bench:bare:done"

app = Celery("bare", set_as_current=False)


def configure_from(settings: Settings) -> None:
    """Take the settings that Pipelit's own workers run on."""
    app.config_from_object(celeryconfig)
    app.conf.update(celeryconfig.from_settings(settings))
    app.conf.task_routes = {"bench.hop": {"queue": QUEUE}}
    # Connections to the broker of an earlier stage, which Celery would go on using; it has no other way to say so.
    app._pool = app.amqp._producer_pool = None


@app.task(name="bench.hop")
def hop(chain: str, left: int) -> None:
    """Send the next task of the chain, or say that it has ended."""
    if left > 1:
        hop.apply_async([chain, left - 1], task_id=f"{chain}-{left - 1}")
    else:
        _redis().rpush(DONE, chain)


def _redis() -> "Redis":
    if not hasattr(app, "bench_redis"):
        app.bench_redis = Redis.from_url(Settings.load(os.environ).redis_url)
    return app.bench_redis


if __name__ == "__main__":
    configure_from(Settings.load(os.environ))
    sys.modules["bench.bare"] = sys.modules["__main__"]
    worker = app.Worker(
        pool_cls="prefork",
        concurrency=Settings.load(os.environ).workers,
        queues=[QUEUE],
        hostname=f"bare.{os.getpid()}@bench",
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    worker.start()
