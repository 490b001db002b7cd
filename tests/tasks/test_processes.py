"""Real processes that run steps, and die in the middle of them."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import pytest

from pipelit.engine import processes
from tests.integrations.web import Asked, Web, reply, serving
from tests.support.crew import Crew
from tests.support.product import wait_until

END = ("template", {"template": "{{ call.body }}"})
PAUSED = "start -> pause; pause -> end"


@dataclass
class Scene:
    """A web server whose first answer comes when the story says so; every other comes at once."""

    web: Web
    opened: threading.Event = field(default_factory=threading.Event)

    def is_asked(self, times: int = 1) -> bool:
        return len(self.web.asked) >= times

    def call(self, **config: object) -> tuple[str, dict[str, object]]:
        """A node that asks this server."""
        return "http_request", {"url": self.web.url(), **config}


@contextmanager
def scene() -> Iterator[Scene]:
    found: list[Scene] = []

    def answer(handler: BaseHTTPRequestHandler, asked: Asked) -> None:
        scene = found[0]
        if asked is scene.web.asked[0]:
            scene.opened.wait(60)
        reply(handler, body=b"done", headers={"Content-Type": "text/plain"})

    with serving(answer) as web:
        found.append(Scene(web))
        try:
            yield found[0]
        finally:
            found[0].opened.set()


def test_parallel_branches_run_at_the_same_time_on_two_workers(crew: Crew) -> None:
    meeting = threading.Barrier(2)

    def together(handler: BaseHTTPRequestHandler, _asked: Asked) -> None:
        meeting.wait(30)
        reply(handler, body=b"met", headers={"Content-Type": "text/plain"})

    with serving(together) as web:
        crew.start("steps", "steps")
        call = ("http_request", {"url": web.url()})
        both = ("template", {"template": "{{ a.body }} and {{ b.body }}"})
        row = crew.run({"a": call, "b": call, "both": both}, "start -> a; start -> b; a -> both; b -> both")
        ended = crew.wait_for(row)

    assert ended.final_output == "met and met"
    assert len(web.asked) == 2


def test_a_step_whose_process_is_killed_is_taken_over_at_once(crew: Crew) -> None:
    with scene() as there:
        (worker,) = crew.start("steps", PIPELIT_LEASE_SECONDS="600")
        row = crew.run({"call": there.call(method="POST"), "end": END}, "start -> call; call -> end")
        wait_until(there.is_asked, "the step runs", or_else=crew.said)

        os.kill(worker.children()[0], signal.SIGKILL)
        ended = crew.wait_for(row)

    assert crew.attempts(row, "call") == [(1, "failed", "worker_lost"), (2, "success", None)]
    assert crew.attempts(row, "end") == [(1, "success", None)]
    assert (ended.final_output, worker.is_running()) == ("done", True)
    keys = [asked.headers["idempotency-key"] for asked in there.web.asked]
    assert keys == [f"{row.execution_id}/call/"] * 2


def test_when_a_whole_worker_is_killed_another_takes_over_by_the_lease(crew: Crew) -> None:
    with scene() as there:
        victim, _system = crew.start("steps", "system")
        row = crew.run({"call": there.call(), "end": END}, "start -> call; call -> end")
        wait_until(there.is_asked, "the step runs", or_else=crew.said)
        crew.start("steps")

        victim.kill()
        ended = crew.wait_for(row)

    assert ended.final_output == "done"
    assert crew.attempts(row, "call") == [(1, "failed", "worker_lost"), (2, "success", None)]
    assert len(there.web.asked) == 2


@pytest.mark.parametrize(
    ("tries", "ended_as", "attempts"),
    [
        (1, "failed", [(1, "failed", "step_timeout")]),
        (2, "completed", [(1, "failed", "step_timeout"), (2, "success", None)]),
    ],
)
def test_an_overseer_that_dies_between_its_report_and_its_kill_has_said_what_happened(
    crew: Crew, tries: int, ended_as: str, attempts: list[object]
) -> None:
    with scene() as there:
        (victim,) = crew.start("steps", program=["tests.support.dying_worker"])
        policy = {"timeout": 1, "retry": {"attempts": tries, "initial": 0}}
        call = there.call(method="POST", failure=policy)
        row = crew.run({"call": call, "end": END}, "start -> call; call -> end")
        wait_until(there.is_asked, "the step runs", or_else=crew.said)
        (process,) = victim.children()

        # It stands still, so that nothing interrupts it but the overseer.
        os.kill(process, signal.SIGSTOP)
        wait_until(lambda: not victim.is_running(), "the worker is gone", or_else=crew.said)
        wait_until(lambda: not processes.running_since(process), "its process is gone with it", or_else=crew.said)
        crew.start("steps", "system")
        crew.wait_for(row, ended_as)

    assert crew.attempts(row, "call") == attempts
    assert len(there.web.asked) == tries
    assert {asked.headers["idempotency-key"] for asked in there.web.asked} == {f"{row.execution_id}/call/"}


def test_a_worker_that_is_told_to_stop_hands_its_step_back(crew: Crew) -> None:
    with scene() as there:
        (victim,) = crew.start("steps", PIPELIT_LEASE_SECONDS="600")
        row = crew.run({"call": there.call(), "end": END}, "start -> call; call -> end")
        wait_until(there.is_asked, "the step runs", or_else=crew.said)

        victim.kill(signal.SIGTERM)
        wait_until(lambda: not victim.is_running(), "the worker has ended", or_else=crew.said)
        assert len(crew.app.extensions["pipelit.redis"].lrange("default", 0, -1)) == 1
        crew.start("steps")
        ended = crew.wait_for(row)

    assert ended.final_output == "done"
    assert crew.attempts(row, "call") == [(1, "failed", "worker_lost"), (2, "success", None)]


def test_a_broker_that_is_killed_and_comes_back_finds_the_step_still_running(crew: Crew) -> None:
    with scene() as there:
        steps, system = crew.start("steps", "system")
        call = there.call(method="POST", idempotency_key=False)
        row = crew.run({"call": call, "end": END}, "start -> call; call -> end")
        wait_until(there.is_asked, "the step runs", or_else=crew.said)

        crew.kill_server()
        threading.Event().wait(3)  # longer than the lease
        there.opened.set()
        threading.Event().wait(1)
        crew.start_server()
        ended = crew.wait_for(row)

    assert ended.final_output == "done"
    assert crew.attempts(row, "call") == [(1, "success", None)]
    assert len(there.web.asked) == 1
    assert steps.is_running()
    assert system.is_running()


def test_after_a_restart_of_the_broker_workers_are_seen_and_the_tick_goes_on(crew: Crew) -> None:
    crew.start("steps", "system")
    redis = crew.app.extensions["pipelit.redis"]

    crew.kill_server()
    crew.start_server()
    redis.delete("pipelit:workers")

    wait_until(lambda: len(redis.hgetall("pipelit:workers")) == 2, "both workers say that they are there")
    before = redis.get("pipelit:tick")
    wait_until(lambda: redis.get("pipelit:tick") not in (None, before), "the tick goes on", or_else=crew.said)
    row = crew.run({"pause": ("wait", {"seconds": 1}), "end": ("template", {"template": "over"})}, PAUSED)
    assert crew.wait_for(row).final_output == "over"
