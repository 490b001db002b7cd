"""A wait suspends the step and hands on what came in."""

from datetime import UTC, datetime, timedelta

import pytest

from pipelit.errors import ConfigError, Invalid
from pipelit.nodes.flow.wait import Wait
from pipelit.nodes.outcome import Completed, External, Suspended, Timer
from pipelit.nodes.ports import Json
from tests.fakes import NOON, FakeContext, brought, run

WAIT = Wait()
CONTEXT = FakeContext(inputs=brought("kept"))
KEPT = {"output": "kept"}


def test_it_waits_for_so_many_seconds() -> None:
    assert run(WAIT, {"seconds": 90}, CONTEXT) == Suspended(Timer(NOON + timedelta(seconds=90)), KEPT)


def test_it_waits_until_a_time_in_any_zone() -> None:
    later = datetime(2026, 3, 14, 13, 0, tzinfo=UTC)

    assert run(WAIT, {"until": "2026-03-14T14:00:00+01:00"}, CONTEXT) == Suspended(Timer(later), KEPT)
    assert run(WAIT, {"until": "2026-03-14T13:00:00"}, CONTEXT) == Suspended(Timer(later), KEPT)
    assert run(WAIT, {"until": later.timestamp()}, CONTEXT) == Suspended(Timer(later), KEPT)


@pytest.mark.parametrize("config", [{"seconds": 0}, {"until": "2020-01-01"}])
def test_what_lies_behind_is_not_waited_for(config: dict[str, Json]) -> None:
    assert run(WAIT, config, CONTEXT) == Completed(KEPT)


def test_it_waits_for_somebody_outside_with_or_without_an_end() -> None:
    assert run(WAIT, {"external": True}, CONTEXT) == Suspended(External(), KEPT)
    assert run(WAIT, {"external": True, "seconds": 5}, CONTEXT) == Suspended(
        External(deadline=NOON + timedelta(seconds=5)), KEPT
    )


def test_an_expression_may_say_how_long() -> None:
    context = FakeContext({"a": {"output": "2.5"}}, brought("kept"))

    assert run(WAIT, {"seconds": "{{ a.output }}"}, context) == Suspended(Timer(NOON + timedelta(seconds=2.5)), KEPT)


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({}, "config.seconds"),
        ({"seconds": 1, "until": "2030-01-01"}, "config.until"),
        ({"until": "soon"}, "config.until"),
        ({"until": {}}, "config.until"),
        ({"seconds": -1}, "config.seconds"),
        ({"seconds": 1e12}, "config.seconds"),
        ({"seconds": 315_360_000}, "config.seconds"),
        ({"seconds": "5"}, "config.seconds"),
    ],
)
def test_there_is_exactly_one_thing_to_wait_for(config: dict[str, Json], path: str) -> None:
    with pytest.raises(Invalid) as refusal:
        WAIT.check(config)

    assert list(refusal.value.errors) == [path]


@pytest.mark.parametrize(
    ("config", "field"), [({"seconds": "{{ a.far }}"}, "seconds"), ({"until": "2036-03-14"}, "until")]
)
def test_nobody_waits_for_ten_years(config: dict[str, Json], field: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{field}: .*at most a year"):
        run(WAIT, config, FakeContext({"a": {"far": 315_360_000}}))


@pytest.mark.parametrize(
    ("config", "methods"),
    [
        ({"seconds": 5}, ()),
        ({"external": True}, ("POST",)),
        ({"external": True, "resume_by_get": True}, ("GET", "POST")),
        ({"seconds": 5, "resume_by_get": True}, ()),
    ],
)
def test_only_who_waits_for_the_outside_has_an_address(config: dict[str, Json], methods: tuple[str, ...]) -> None:
    assert WAIT.resume_methods(config) == methods


def test_an_expression_that_gives_no_time_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^until: Not a time: the text 'whenever'"):
        run(WAIT, {"until": "{{ a.output }}"}, FakeContext({"a": {"output": "whenever"}}))


def test_a_wait_that_is_too_short_or_too_long_is_told_both_limits() -> None:
    for seconds in (-1, 1e12):
        with pytest.raises(Invalid) as refused:
            WAIT.check({"seconds": seconds})
        assert refused.value.errors == {
            "config.seconds": ["A wait lasts at least 0 seconds and at most a year (31622400 seconds)."]
        }
