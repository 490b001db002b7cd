"""A worker with tasks of its own, for what must be true of any task: `python -m tests.support.naps LANE PATIENCE`."""

import os
import signal
import sys
import time

from redis import Redis

import celeryconfig
from pipelit.extensions import celery
from pipelit.launcher import workers
from pipelit.launcher.environment import load_settings


@celery.task(name="tests.nap")
def nap(seconds: float, note: str, url: str) -> None:
    """Sleep, and note when it began and when it ended."""
    with Redis.from_url(url) as client:
        client.rpush(note, f"began {os.getpid()}")
        time.sleep(seconds)
        client.rpush(note, f"ended {os.getpid()}")


@celery.task(name="tests.die_once")
def die_once(note: str, url: str) -> None:
    """Kill the process it runs in, the first time."""
    with Redis.from_url(url) as client:
        if client.rpush(note, f"began {os.getpid()}") == 1:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(workers.run(load_settings(), celeryconfig.lane(sys.argv[1]), patience=float(sys.argv[2])))
