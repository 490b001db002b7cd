"""An installation says that it is ready when real workers serve all of its queues."""

from pipelit import clock
from pipelit.services import health
from tests.support.crew import Crew


def test_it_is_ready_when_each_lane_has_a_worker(crew: Crew) -> None:
    crew.start("steps")
    assert health.missing(clock.now_ms()).keys() == {"worker-system"}

    crew.start("system")
    assert health.missing(clock.now_ms()) == {}


def test_one_worker_for_everything_is_enough(crew: Crew) -> None:
    crew.start("all")

    assert health.missing(clock.now_ms()) == {}
