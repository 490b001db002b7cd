"""A worker for stories over HTTP: it runs what stands in the queues, in an application context of its own."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from flask import Flask

from tests.support.hand import QUEUES, Hand

Work = Callable[[], None]


@pytest.fixture
def work(app: Flask) -> Work:
    """Deliver messages until there are none."""

    def run() -> None:
        with app.app_context():
            Hand(app).run_all()

    return run


@contextmanager
def working(app: Flask) -> Iterator[None]:
    """Deliver every message from another thread for the length of the block."""
    stop = threading.Event()

    def run() -> None:
        with app.app_context():
            hand = Hand(app)
            while not stop.is_set():
                if not any(hand.deliver(queue) for queue in QUEUES):
                    time.sleep(0.005)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
