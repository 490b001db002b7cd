"""Times: read, written, moved and compared, in any zone."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelit.errors import ConfigError, Invalid
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Json
from pipelit.nodes.tools.datetime import Datetime
from tests.fakes import FakeContext, run

DATETIME = Datetime()
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"])
TIMES = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)).map(lambda time: time.replace(tzinfo=UTC))


def done(operation: str, **settings: Json) -> Json:
    return outputs(operation, **settings)["output"]


def outputs(operation: str, **settings: Json) -> dict[str, Json]:
    outcome = run(DATETIME, {"operation": operation, **settings}, FakeContext())
    assert isinstance(outcome, Completed)
    return dict(outcome.outputs)


@pytest.mark.parametrize(
    ("operation", "settings", "output"),
    [
        ("now", {}, "2026-03-14T12:00:00+00:00"),
        ("now", {"timezone": "Asia/Tokyo", "format": "%H:%M"}, "21:00"),
        ("parse", {"value": "14.03.2026", "format": "%d.%m.%Y"}, "2026-03-14T00:00:00+00:00"),
        ("parse", {"value": "2026-03-14T10:00"}, "2026-03-14T10:00:00+00:00"),
        ("parse", {"value": 0}, "1970-01-01T00:00:00+00:00"),
        ("format", {"value": "2026-03-14T10:00:00Z", "format": "%d.%m.%Y"}, "14.03.2026"),
        ("convert", {"value": "2026-07-01T12:00:00Z", "timezone": "Europe/Berlin"}, "2026-07-01T14:00:00+02:00"),
        ("add", {"value": "2026-01-31", "amount": 1, "unit": "months"}, "2026-02-28T00:00:00+00:00"),
        ("add", {"value": "2024-02-29", "amount": 1, "unit": "years"}, "2025-02-28T00:00:00+00:00"),
        ("add", {"value": "2026-03-14", "amount": -1.5, "unit": "hours"}, "2026-03-13T22:30:00+00:00"),
        ("add", {"amount": 2, "unit": "weeks"}, "2026-03-28T12:00:00+00:00"),
        ("diff", {"value": "2026-01-01", "other": "2026-01-02", "unit": "hours"}, 24),
        ("diff", {"value": "2026-01-31", "other": "2026-03-30", "unit": "months"}, 1),
        ("diff", {"value": "2026-03-30", "other": "2026-01-31", "unit": "months"}, -1),
        ("diff", {"value": "2000-01-01", "unit": "years"}, 26),
        ("diff", {"value": "2026-01-01", "other": "2026-01-01T12:00", "unit": "days"}, 0.5),
    ],
)
def test_operations_by_example(operation: str, settings: dict[str, Json], output: Json) -> None:
    assert done(operation, **settings) == output


def test_days_go_by_the_calendar_and_hours_by_the_clock() -> None:
    before = {"value": "2026-03-28T12:00", "timezone": "Europe/Berlin", "amount": 1}

    assert done("add", **before, unit="days") == "2026-03-29T12:00:00+02:00"
    assert done("add", **{**before, "amount": 24}, unit="hours") == "2026-03-29T13:00:00+02:00"


def test_a_time_that_clocks_leave_out_is_moved_on() -> None:
    gap = {"value": "2026-03-29T02:30", "timezone": "Europe/Berlin"}

    assert done("parse", **gap) == "2026-03-29T03:30:00+02:00"
    assert done("add", value="2026-03-28T02:30", timezone="Europe/Berlin", amount=1) == "2026-03-29T03:30:00+02:00"


def test_a_time_is_taken_apart() -> None:
    parts = outputs("convert", value="2026-01-01T12:00:00Z", timezone="Asia/Tokyo")["parts"]

    assert parts == {
        "year": 2026,
        "month": 1,
        "day": 1,
        "hour": 21,
        "minute": 0,
        "second": 0,
        "weekday": 4,
        "week": 1,
        "timestamp": 1767268800,
        "iso": "2026-01-01T21:00:00+09:00",
        "timezone": "Asia/Tokyo",
    }


def test_a_span_is_taken_apart() -> None:
    span = outputs("diff", value="2026-01-01", other="2026-01-03T04:05:06")["parts"]

    assert span == {"days": 2, "hours": 4, "minutes": 5, "seconds": 6}


@given(TIMES, ZONES)
def test_a_zone_changes_how_a_time_is_shown_and_not_when_it_is(time: datetime, zone: str) -> None:
    shown = done("convert", value=time.isoformat(), timezone=zone)

    assert datetime.fromisoformat(str(shown)) == time
    assert datetime.fromisoformat(str(shown)).utcoffset() == time.astimezone(ZoneInfo(zone)).utcoffset()


@given(TIMES, ZONES, st.integers(-100_000, 100_000), st.sampled_from(["seconds", "minutes", "hours"]))
def test_diff_undoes_add(time: datetime, zone: str, amount: int, unit: str) -> None:
    moved = done("add", value=time.isoformat(), timezone=zone, amount=amount, unit=unit)

    assert done("diff", value=time.isoformat(), other=moved, unit=unit) == pytest.approx(amount, abs=1e-6)


@given(TIMES, st.integers(-600, 600))
def test_adding_months_stays_in_the_month(time: datetime, amount: int) -> None:
    moved = datetime.fromisoformat(str(done("add", value=time.isoformat(), amount=amount, unit="months")))

    assert moved.year * 12 + moved.month == time.year * 12 + time.month + amount
    assert moved.day <= time.day
    assert moved.day == time.day or (moved + timedelta(days=1)).day == 1


@pytest.mark.parametrize(
    ("operation", "settings", "message"),
    [
        ("parse", {"value": "soon"}, "value: the text 'soon' is not a time like"),
        ("parse", {"value": "2026", "format": "%d.%m"}, "value: the text '2026' is not a time in the format %d.%m"),
        ("parse", {"value": []}, "value: a list of 0 is not a time"),
        ("diff", {"other": True}, "other: true is not a time"),
        ("add", {"amount": 1e10, "unit": "years"}, "amount: the result is outside"),
        ("add", {"amount": 1e10, "unit": "weeks"}, "amount: the result is outside"),
        ("add", {"amount": 1e10, "unit": "hours"}, "amount: the result is outside"),
        ("add", {"amount": 0.5, "unit": "months"}, "amount: months are added whole"),
        ("now", {"format": "%Y\ud800"}, "format: .* cannot be written"),
        ("parse", {"value": "0001-01-01T00:00:00+14:00"}, "value: .* is not a time"),
    ],
)
def test_a_time_that_is_none_is_named(operation: str, settings: dict[str, Json], message: str) -> None:
    with pytest.raises(ConfigError, match="^" + message):
        done(operation, **settings)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "/etc/passwd", "Europe", "\x00", "é"])
def test_a_zone_that_is_none_is_refused_when_it_is_written(zone: str) -> None:
    with pytest.raises(Invalid) as refusal:
        DATETIME.check({"timezone": zone})

    assert list(refusal.value.errors) == ["config.timezone"]


def test_a_zone_may_come_from_an_expression() -> None:
    config: dict[str, Json] = {"timezone": "{{ user.zone }}", "format": "%Z"}

    assert run(DATETIME, config, FakeContext({"user": {"zone": "Asia/Tokyo"}})).outputs["output"] == "JST"
    with pytest.raises(ConfigError, match=r"^timezone: There is no time zone called 'Moon'"):
        run(DATETIME, config, FakeContext({"user": {"zone": "Moon"}}))
