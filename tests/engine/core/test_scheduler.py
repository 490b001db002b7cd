"""What follows from what: one story for each thing that can happen to an execution."""

import pytest

from pipelit.engine.core.commands import Finish, HoldStep, UseDefault
from pipelit.engine.core.events import (
    Cancelled,
    Event,
    Failure,
    Started,
    StepLost,
    StepReleased,
    StepResumed,
    StepSucceeded,
    StepSuspended,
    TimedOut,
)
from pipelit.engine.core.graph import FailurePolicy, Join, OnError, Retry
from pipelit.engine.core.state import ExecutionStatus, StepId
from tests.engine.core.story import BROKEN, BUSY, COMPLETED, Story, on_error, run, started
from tests.graphs import graph


def test_steps_follow_one_another() -> None:
    story = Story(graph("start -> a -> b"))

    assert story.start() == [run("a")]
    assert story.succeed("a") == [run("b")]
    assert story.succeed("b") == [COMPLETED]
    assert story.state.status is ExecutionStatus.COMPLETED


def test_a_trigger_that_nothing_follows_completes_at_once() -> None:
    assert Story(graph("start")).start() == [COMPLETED]


def test_parallel_branches_meet_in_a_join() -> None:
    story = Story(graph("start -> a, b -> c"))

    assert story.start() == [run("a"), run("b")]
    assert story.succeed("b") == []
    assert story.succeed("a") == [run("c")]


def test_a_join_waits_only_for_branches_that_were_taken() -> None:
    story = started("start -> switch; switch.yes -> a; switch.no -> b; a, b -> join")

    assert story.succeed("switch", route="yes") == [run("a")]
    assert story.status("b") == "skipped"
    assert story.succeed("a") == [run("join")]


def test_an_impatient_join_runs_with_the_first_branch_and_only_once() -> None:
    story = started("start -> a, b -> join", join={"join": Join.ANY})

    assert story.succeed("b") == [run("join")]
    assert story.succeed("join") == []
    assert story.succeed("a") == [COMPLETED]


def test_an_impatient_join_is_skipped_when_no_branch_came() -> None:
    story = started("start -> a, b; a.x, b.x -> join", join={"join": Join.ANY})

    assert story.succeed("a") == []
    assert story.succeed("b") == [COMPLETED]
    assert story.status("join") == "skipped"


def test_nothing_runs_behind_a_path_that_was_not_taken() -> None:
    story = started("start -> a; a.other -> b -> c -> d; b!error -> e")

    assert story.succeed("a", route="this") == [COMPLETED]
    assert [story.status(step) for step in "bcde"] == ["skipped"] * 4


def test_an_error_leaves_by_its_port() -> None:
    story = started("start -> a -> b; a!error -> c", a=on_error(OnError.CONTINUE))

    assert story.fail("a") == [run("c")]
    assert (story.status("a"), story.status("b")) == ("failed", "skipped")
    assert story.succeed("c") == [COMPLETED]


def test_a_default_value_stands_in_for_an_output() -> None:
    story = started("start -> a -> b; a!error -> c", a=on_error(OnError.DEFAULT))

    assert story.fail("a") == [UseDefault(StepId.parse("a")), run("b")]
    assert (story.status("a"), story.status("c")) == ("succeeded", "skipped")


def test_an_error_without_a_policy_stops_the_execution() -> None:
    story = started("start -> a, b")

    assert story.fail("a") == [Finish(ExecutionStatus.FAILED, StepId.parse("a"), BROKEN)]
    assert story.succeed("b") == []


def test_retries_wait_longer_each_time_up_to_a_ceiling() -> None:
    retry = Retry(attempts=5, initial=2.0, factor=3.0, ceiling=10.0, jitter=0.5)
    story = started("start -> a", a={"policy": FailurePolicy(retry)})

    assert story.fail("a", BUSY) == [run("a", 2, 2.0, 0.5)]
    assert story.fail("a", BUSY) == [run("a", 3, 6.0, 0.5)]
    assert story.fail("a", BUSY) == [run("a", 4, 10.0, 0.5)]
    assert story.fail("a", Failure("busy", "Later.", retryable=True, after=30.0)) == [run("a", 5, 30.0, 0.5)]
    assert story.fail("a", BUSY) == [Finish(ExecutionStatus.FAILED, StepId.parse("a"), BUSY)]


def test_the_ceiling_holds_however_often_a_step_is_tried() -> None:
    assert Retry(attempts=10_000).delay(9_999) == 60.0


def test_an_error_that_will_not_go_away_is_not_tried_again() -> None:
    story = started("start -> a", a=on_error(OnError.CONTINUE, attempts=5))

    assert story.fail("a", BROKEN) == [COMPLETED]


def test_a_step_that_kills_three_workers_is_given_up() -> None:
    story = started("start -> a")

    assert story.lose("a") == [run("a", 2)]
    assert story.lose("a") == [run("a", 3)]
    (finish,) = story.lose("a")
    assert isinstance(finish, Finish)
    assert finish.failure == Failure("worker_lost", "The step was given up: its worker died 3 times.")


def test_how_the_last_worker_died_is_told_with_the_step_that_is_given_up() -> None:
    story = started("start -> a")
    attempt = story.attempt("a")

    (finish,) = story.tell(StepLost(*attempt, is_safe=False, reason="signal 9 (SIGKILL)"))

    assert isinstance(finish, Finish)
    assert finish.failure is not None
    assert finish.failure.message.endswith("its worker died and it is not safe to repeat (signal 9 (SIGKILL)).")


def test_a_step_that_must_not_be_repeated_is_given_up_with_its_first_worker() -> None:
    story = started("start -> a; a!error -> b", a=on_error(OnError.CONTINUE))

    assert story.lose("a", is_safe=False) == [run("b")]


def test_deaths_and_failures_are_counted_apart() -> None:
    story = started("start -> a", a=on_error(OnError.STOP, attempts=2))

    assert story.lose("a") == [run("a", 2)]
    assert story.fail("a", BUSY) == [run("a", 3, 1.0)]
    assert story.lose("a") == [run("a", 4)]


def test_answers_of_earlier_attempts_are_not_heard() -> None:
    story = started("start -> a -> b", a=on_error(OnError.STOP, attempts=2))
    story.fail("a", BUSY)
    before = story.state

    assert story.tell(StepSucceeded(StepId.parse("a"), 1)) == []
    assert story.tell(StepSucceeded(StepId.parse("a"), 3)) == []
    assert story.tell(StepSucceeded(StepId.parse("b"), 1)) == []
    assert story.tell(Started()) == []
    assert story.state is before


def test_a_suspended_step_goes_on_when_its_answer_comes() -> None:
    story = started("start -> a; a.yes -> b")

    assert story.tell(StepSuspended(StepId.parse("a"), 1)) == []
    assert story.status("a") == "waiting"
    assert story.succeed("a") == [], "its worker is gone"
    assert story.lose("a") == []
    assert story.tell(StepResumed(StepId.parse("a"), 1, "yes")) == [run("b")]
    assert story.tell(StepResumed(StepId.parse("a"), 1, "yes")) == []


def test_a_suspended_step_whose_time_is_up_fails_by_its_policy() -> None:
    story = started("start -> a", a=on_error(OnError.STOP, attempts=2))
    story.tell(StepSuspended(StepId.parse("a"), 1))

    assert story.fail("a", BUSY) == [run("a", 2, 1.0)]
    assert story.succeed("a") == [COMPLETED]


def test_an_answer_before_the_question_is_not_heard() -> None:
    story = started("start -> a")

    assert story.tell(StepResumed(StepId.parse("a"), 1)) == []
    assert story.status("a") == "ready"


def test_a_person_is_asked_before_a_step() -> None:
    story = Story(graph("start -> a", a={"interrupt_before": True}))
    a = StepId.parse("a")

    assert story.start() == [HoldStep(a, is_after=False)]
    assert story.tell(StepReleased(a, is_after=True)) == []
    assert story.tell(StepReleased(a, is_after=False)) == [run("a")]


def test_a_held_execution_is_known_by_its_steps() -> None:
    held, going = Story(graph("start -> a", a={"interrupt_before": True})), Story(graph("start -> a"))
    held.start()
    going.start()

    assert (held.state.is_held, going.state.is_held) == (True, False)
    assert list(held.state.in_flight) == list(going.state.in_flight) == [StepId.parse("a")]


def test_a_person_is_asked_behind_a_step_whose_route_is_kept() -> None:
    story = started("start -> a; a.yes -> b", a={"interrupt_after": True})
    a = StepId.parse("a")

    assert story.succeed("a", route="yes") == [HoldStep(a, is_after=True)]
    assert story.tell(StepReleased(a, is_after=True)) == [run("b")]
    assert story.tell(StepReleased(a, is_after=True)) == []


def test_the_first_release_told_twice_does_not_answer_the_second_question() -> None:
    story = started("start -> a -> b", a={"interrupt_before": True, "interrupt_after": True})
    a = StepId.parse("a")
    story.tell(StepReleased(a, is_after=False))
    story.succeed("a")

    assert story.tell(StepReleased(a, is_after=False)) == []
    assert story.status("a") == "held_after"


@pytest.mark.parametrize(
    ("event", "status"), [(Cancelled(), ExecutionStatus.CANCELLED), (TimedOut(), ExecutionStatus.TIMED_OUT)]
)
def test_a_stopped_execution_hears_nothing_more(event: Event, status: ExecutionStatus) -> None:
    story = started("start -> a -> b")

    assert story.tell(event) == [Finish(status)]
    assert story.succeed("a") == []
    assert story.tell(Cancelled()) == []
    assert story.tell(TimedOut()) == []
    assert story.state.status is status


def test_an_execution_cancelled_before_its_start_never_starts() -> None:
    story = Story(graph("start -> a"))

    assert story.tell(Cancelled()) == [Finish(ExecutionStatus.CANCELLED)]
    assert story.start() == []


def test_the_output_is_taken_from_the_nodes_that_nothing_follows() -> None:
    plan = graph("start -> a, L{ x }; a -> b; b!error -> c")

    assert plan.leaves == ("L", "b", "c")
