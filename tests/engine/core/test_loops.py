"""What follows in loops: one story for each thing that can happen to their iterations."""

from pipelit.engine.core.commands import Finish, FinishLoop, GiveUpLoop, HoldStep, UseDefault
from pipelit.engine.core.events import StepReleased, StepSucceeded
from pipelit.engine.core.graph import Join, OnError, OnItemError
from pipelit.engine.core.state import ExecutionStatus, StepId
from tests.engine.core.story import BROKEN, COMPLETED, CONTINUE, collect, on_error, run, started


def test_a_loop_takes_one_item_after_the_other() -> None:
    story = started("start -> L{ a -> b } -> c")

    assert story.iterate("L", 2) == [run("a@L:0")]
    assert story.succeed("a@L:0") == [run("b@L:0")]
    assert story.succeed("b@L:0") == [collect("L", 0, "b@L:0"), run("a@L:1")]
    assert {str(step) for step in story.state.steps} == {"start", "L", "a@L:1"}, "what is folded is gone"
    story.succeed("a@L:1")
    assert story.succeed("b@L:1") == [collect("L", 1, "b@L:1"), FinishLoop(StepId.parse("L"), 2), run("c")]


def test_a_loop_keeps_no_more_than_its_concurrency_going() -> None:
    story = started("start -> L{ a }", L={"concurrency": 2})

    assert story.iterate("L", 4) == [run("a@L:0"), run("a@L:1")]
    assert story.succeed("a@L:1") == [collect("L", 1, "a@L:1"), run("a@L:2")]
    assert story.succeed("a@L:2") == [collect("L", 2, "a@L:2"), run("a@L:3")]
    assert story.succeed("a@L:0") == [collect("L", 0, "a@L:0")]
    assert story.succeed("a@L:3") == [collect("L", 3, "a@L:3"), FinishLoop(StepId.parse("L"), 4), COMPLETED]


def test_a_long_loop_is_no_larger_than_a_short_one() -> None:
    story = started("start -> L{ a }", L={"concurrency": 3})
    story.iterate("L", 10_000)
    sizes = set()
    for index in range(9_999):
        story.succeed(f"a@L:{index}")
        sizes.add(len(story.state.steps))

    assert max(sizes) == len({"start", "L"}) + 3
    assert story.succeed("a@L:9999")[-1] == COMPLETED


def test_a_loop_over_nothing_has_no_results() -> None:
    story = started("start -> L{ a } -> b")

    assert story.iterate("L", 0) == [FinishLoop(StepId.parse("L"), 0), run("b")]


def test_an_iteration_without_output_yields_null() -> None:
    story = started("start -> L{ a.x -> b }")
    story.iterate("L", 1)

    assert story.succeed("a@L:0") == [collect("L", 0), FinishLoop(StepId.parse("L"), 1), COMPLETED]


def test_a_default_value_is_put_in_place_before_it_is_collected() -> None:
    story = started("start -> L{ a }", a=on_error(OnError.DEFAULT))
    story.iterate("L", 1)

    assert story.fail("a@L:0")[:2] == [UseDefault(StepId.parse("a@L:0")), collect("L", 0, "a@L:0")]


def test_a_loop_that_stops_stops_the_execution_at_the_step_that_failed() -> None:
    story = started("start -> L{ a }", L={"concurrency": 2})
    story.iterate("L", 3)

    assert story.fail("a@L:1") == [Finish(ExecutionStatus.FAILED, StepId.parse("a@L:1"), BROKEN)]


def test_a_loop_that_stops_fails_by_its_own_policy() -> None:
    story = started("start -> L{ a } -> b; L!error -> c", L={"concurrency": 2, "policy": CONTINUE})
    story.iterate("L", 3)

    assert story.fail("a@L:1") == [run("c")]
    assert {str(step) for step in story.state.steps} == {"start", "L", "b", "c"}
    assert (story.status("L"), story.status("b")) == ("failed", "skipped")


def test_a_loop_that_goes_on_yields_null_for_what_failed() -> None:
    story = started("start -> L{ a -> b }", L={"on_error": OnItemError.CONTINUE})
    story.iterate("L", 2)

    assert story.fail("a@L:0") == [collect("L", 0), run("a@L:1")]


def test_a_loop_that_collects_keeps_the_failure_in_the_items_place() -> None:
    story = started("start -> L{ a, b }", L={"on_error": OnItemError.COLLECT})
    story.iterate("L", 2)
    late = StepSucceeded(*story.attempt("b@L:0"))

    assert story.fail("a@L:0") == [collect("L", 0, failure=BROKEN), run("a@L:1"), run("b@L:1")]
    assert story.tell(late) == [], "its iteration is over"


def test_loops_inside_loops_hand_their_results_outward() -> None:
    story = started("start -> L{ M{ a } }")
    story.iterate("L", 2)

    assert story.iterate("M@L:0", 1) == [run("a@L:0/M:0")]
    assert story.succeed("a@L:0/M:0") == [
        collect("M@L:0", 0, "a@L:0/M:0"),
        FinishLoop(StepId.parse("M@L:0"), 1),
        collect("L", 0, "M@L:0"),
        run("M@L:1"),
    ]


def test_a_failure_ends_the_nearest_iteration_that_its_loop_can_do_without() -> None:
    story = started("start -> L{ M{ a }; b }", L={"on_error": OnItemError.COLLECT})
    story.iterate("L", 1)
    story.iterate("M@L:0", 3)

    assert story.fail("a@L:0/M:0") == [
        collect("L", 0, failure=BROKEN),
        FinishLoop(StepId.parse("L"), 1),
        COMPLETED,
    ]


def test_a_join_that_ran_does_not_run_again_when_its_iteration_is_folded() -> None:
    story = started("start -> L{ L -> d; a.x -> b -> d }", d={"join": Join.ANY})
    assert story.iterate("L", 1) == [run("d@L:0"), run("a@L:0")]
    assert story.succeed("d@L:0") == []

    assert story.succeed("a@L:0") == [collect("L", 0, "d@L:0"), FinishLoop(StepId.parse("L"), 1), COMPLETED]


def test_a_loop_is_held_like_any_other_step() -> None:
    story = started("start -> L{ a } -> b", L={"interrupt_after": True})
    loop = StepId.parse("L")
    story.iterate("L", 1)

    assert story.succeed("a@L:0") == [collect("L", 0, "a@L:0"), FinishLoop(loop, 1), HoldStep(loop, is_after=True)]
    assert story.tell(StepReleased(loop, is_after=True)) == [run("b")]


def test_a_step_that_is_skipped_in_the_last_moment_of_its_iteration_is_told_all_the_same() -> None:
    story = started("start -> L{ a; a.other -> b }")
    story.iterate("L", 1)

    story.succeed("a@L:0", "none")

    assert story.skipped == ["b@L:0"]


def test_a_loop_that_is_given_up_is_told_with_the_reason() -> None:
    story = started("start -> L{ M{ a } }")
    story.iterate("L", 1)
    story.iterate("M@L:0", 3)

    story.fail("a@L:0/M:0")

    assert [(str(news.loop), news.total, news.failure) for news in story.news if isinstance(news, GiveUpLoop)] == [
        ("M@L:0", 3, BROKEN),
        ("L", 1, BROKEN),
    ]
