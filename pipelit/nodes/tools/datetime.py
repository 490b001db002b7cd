"""Dates and times."""

import calendar
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from marshmallow import fields, validate

from pipelit.errors import ConfigError
from pipelit.nodes.base import StepConfig, StepContext, StepNode
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Category, DataType, Json, Port
from pipelit.nodes.settings import config, is_template, setting
from pipelit.nodes.values import as_time, described

CLOCK_UNITS = {"seconds": 1, "minutes": 60, "hours": 3600}
MONTHS = {"months": 1, "years": 12}
DAYS = {"days": 1, "weeks": 7}
UNITS = [*CLOCK_UNITS, *DAYS, *MONTHS]
OPERATIONS = ["now", "parse", "format", "add", "diff", "convert"]
USING_VALUE = ["parse", "format", "add", "diff", "convert"]


@config
class DatetimeConfig(StepConfig):
    """What to do with which time."""

    operation: str = setting(
        fields.String(validate=validate.OneOf(OPERATIONS)), title="Operation", default="now", is_literal=True
    )
    value: Json = setting(
        fields.Raw(allow_none=True),
        title="Time",
        help="ISO 8601 text, or seconds since 1970; empty means now.",
        default=None,
        visible_when={"operation": USING_VALUE},
    )
    other: Json = setting(
        fields.Raw(allow_none=True),
        title="Until",
        help="The time up to which to count; empty means now.",
        default=None,
        visible_when={"operation": "diff"},
    )
    timezone: str = setting(
        fields.String(validate=validate.Length(min=1, max=64)),
        title="Time zone",
        help="An IANA name such as Europe/Berlin. The result is in it, and so are times that name no zone.",
        default="UTC",
    )
    format: str | None = setting(
        fields.String(validate=validate.Length(min=1, max=200)),
        title="Format",
        help="In the signs of strftime: %Y-%m-%d %H:%M; empty means ISO 8601.",
        default=None,
        visible_when={"operation": ["now", "parse", "format", "convert", "add"]},
    )
    amount: float = setting(
        fields.Float(validate=validate.Range(-1e10, 1e10)),
        title="Amount",
        help="How much to add; negative amounts lead back.",
        default=0,
        visible_when={"operation": "add"},
    )
    unit: str = setting(
        fields.String(validate=validate.OneOf(UNITS)),
        title="Unit",
        default="days",
        visible_when={"operation": ["add", "diff"]},
    )

    @staticmethod
    def problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """The time zone exists."""
        zone = values.get("timezone", "UTC")
        if not is_template(zone) and _zone(zone) is None:
            yield "timezone", f"There is no time zone called '{zone[:64]}'. Use an IANA name such as Europe/Berlin."


class Datetime(StepNode[DatetimeConfig]):
    """Works with times.

    - **now** is the present.
    - **parse** reads a text: ISO 8601, or the given format.
    - **format** writes a time in the given format.
    - **convert** shows a time in another zone.
    - **add** adds an amount of a unit. Seconds, minutes and hours are time that passes; days, weeks, months and years
      go by the calendar of the zone: noon stays noon when clocks change, and the end of a month stays in its month.
    - **diff** is how many units lie between two times, as a number; negative if the second is earlier. Months and years
      are counted whole.

    `output` is the result (text, for `diff` a number). `parts` takes the time apart: year, month, day, hour, minute,
    second, weekday (Monday is 1), week, timestamp, iso, timezone; for `diff` it is the span in days, hours, minutes and
    seconds.
    """

    type = "datetime"
    title = "Date and time"
    category = Category.TOOL
    icon = "calendar-clock"
    inputs = (Port("input", DataType.ANY, "Decides when the node runs; values are read by expressions."),)
    outputs = (
        Port("output", DataType.ANY, "The result: a text, or a number for diff."),
        Port("parts", DataType.OBJECT, "The time, or the span, taken apart."),
    )
    example = {"operation": "add", "amount": 1, "unit": "months", "timezone": "Europe/Berlin", "format": "%d.%m.%Y"}
    is_pure = True
    is_tool = True
    Config = DatetimeConfig

    def run(self, config: DatetimeConfig, context: StepContext) -> Completed:
        zone = _zone(config.timezone) or UTC
        start = context.now().astimezone(zone) if config.operation == "now" else _time(config, "value", context, zone)
        if config.operation == "diff":
            return _difference(start, _time(config, "other", context, zone), config.unit)
        if config.operation == "add":
            start = _add(start, config)
        text = start.isoformat()
        if config.format is not None and config.operation != "parse":
            text = _formatted(start, config.format)
        return Completed({"output": text, "parts": _parts(start, config.timezone)})


def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _time(config: DatetimeConfig, setting_name: str, context: StepContext, zone: Any) -> datetime:
    value: Json = getattr(config, setting_name)
    if value is None:
        return context.now().astimezone(zone)
    try:
        if isinstance(value, str) and config.operation == "parse" and config.format is not None:
            return _in_zone(datetime.strptime(value.strip(), config.format), zone)  # noqa: DTZ007 - the zone follows
        if isinstance(value, str):
            return _in_zone(datetime.fromisoformat(value.strip()), zone)
        time = as_time(value)
        if time is not None:
            return time.astimezone(zone)
    except (ValueError, OverflowError):
        pass
    is_formatted = config.operation == "parse" and config.format is not None
    wanted = f"in the format {config.format}" if is_formatted else "like 2030-01-31T12:00"
    raise ConfigError(f"{setting_name}: {described(value)} is not a time {wanted}.")


def _in_zone(time: datetime, zone: Any) -> datetime:
    """The time in the zone; one that names no zone is meant there, and one that clocks leave out is moved on."""
    known = time.replace(tzinfo=zone) if time.tzinfo is None else time
    return known.astimezone(UTC).astimezone(zone)


def _add(start: datetime, config: DatetimeConfig) -> datetime:
    try:
        if config.unit in CLOCK_UNITS:
            passed = timedelta(seconds=config.amount * CLOCK_UNITS[config.unit])
            return (start.astimezone(UTC) + passed).astimezone(start.tzinfo)
        if config.unit in DAYS:
            moved = start + timedelta(days=config.amount * DAYS[config.unit])
        else:
            moved = _add_months(start, config)
        return _in_zone(moved, start.tzinfo)
    except (OverflowError, ValueError):
        raise ConfigError("amount: the result is outside of the years 1 to 9999.") from None


def _add_months(start: datetime, config: DatetimeConfig) -> datetime:
    if not float(config.amount).is_integer():
        raise ConfigError(f"amount: {config.unit} are added whole; use days for parts of them.")
    months = start.year * 12 + start.month - 1 + int(config.amount) * MONTHS[config.unit]
    year, month = months // 12, months % 12 + 1
    if not 1 <= year <= 9999:
        raise OverflowError
    return start.replace(year=year, month=month, day=min(start.day, calendar.monthrange(year, month)[1]))


def _difference(start: datetime, end: datetime, unit: str) -> Completed:
    span = end.astimezone(UTC) - start.astimezone(UTC)
    seconds = span.total_seconds()
    if unit in MONTHS:
        first, last = sorted((start, end))
        whole = _whole_months(first, last) // MONTHS[unit]
        output: float = whole if first is start else -whole
    else:
        output = seconds / (CLOCK_UNITS.get(unit) or DAYS[unit] * 86_400)
    minutes, rest = divmod(abs(seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    days, hours = divmod(hours, 24)
    parts: dict[str, Json] = {"days": days, "hours": hours, "minutes": minutes, "seconds": _plain(rest)}
    return Completed({"output": _plain(output), "parts": parts})


def _whole_months(start: datetime, end: datetime) -> int:
    months = (end.year - start.year) * 12 + end.month - start.month
    return months - (1 if (end.day, end.time()) < (start.day, start.time()) else 0)


def _plain(number: float) -> int | float:
    return int(number) if float(number).is_integer() else number


def _formatted(time: datetime, pattern: str) -> str:
    try:
        return time.strftime(pattern)
    except ValueError:
        raise ConfigError(f"format: '{pattern}' cannot be written. Use signs of strftime such as %Y-%m-%d.") from None


def _parts(time: datetime, zone: str) -> dict[str, Json]:
    return {
        "year": time.year,
        "month": time.month,
        "day": time.day,
        "hour": time.hour,
        "minute": time.minute,
        "second": time.second,
        "weekday": time.isoweekday(),
        "week": time.isocalendar().week,
        "timestamp": _plain(time.timestamp()),
        "iso": time.isoformat(),
        "timezone": zone,
    }
