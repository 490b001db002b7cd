"""Going on later."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from marshmallow import fields, validate

from pipelit.errors import ConfigError
from pipelit.nodes.base import StepConfig, StepContext, StepNode
from pipelit.nodes.inputs import passed_on
from pipelit.nodes.outcome import Completed, External, Outcome, Suspended, Timer
from pipelit.nodes.ports import Category, DataType, Json, Port
from pipelit.nodes.settings import config, is_template, setting
from pipelit.nodes.values import as_time, described

ONE_YEAR = 366 * 86_400
"""Seconds; whoever wants to wait longer than that wants a schedule."""

TOO_LONG = "A wait lasts at most a year (31622400 seconds)."


@config
class WaitConfig(StepConfig):
    """For how long, until when, or for whom."""

    seconds: float | None = setting(
        fields.Float(
            validate=validate.Range(
                0, ONE_YEAR, error="A wait lasts at least 0 seconds and at most a year (31622400 seconds)."
            )
        ),
        title="Seconds",
        help="How long to wait, at most a year.",
        default=None,
    )
    until: Json = setting(
        fields.Raw(allow_none=True),
        title="Until",
        help="The time to wait for: ISO 8601 (UTC without a zone), or seconds since 1970.",
        default=None,
    )
    external: bool = setting(
        fields.Boolean(),
        title="Until it is resumed",
        help="Wait until somebody calls the step's resume address; seconds or until are then the latest time.",
        default=False,
        is_literal=True,
    )
    resume_by_get: bool = setting(
        fields.Boolean(),
        title="Resume by opening the address",
        help="A GET resumes, too: for links in mails. Programs that try links before people do will resume as well.",
        default=False,
        is_literal=True,
        is_advanced=True,
        visible_when={"external": True},
    )

    @staticmethod
    def problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """There is exactly one thing to wait for."""
        seconds, until = values.get("seconds"), values.get("until")
        if seconds is not None and until is not None:
            yield "until", "Give seconds or a time, not both."
        elif seconds is None and until is None and not values.get("external"):
            yield "seconds", "Say how long to wait, until when, or that somebody will resume the execution."
        elif until is not None and not is_template(until) and as_time(until) is None:
            yield "until", f"Not a time: {described(until)}. Write it like 2030-01-31T12:00:00Z."


class Wait(StepNode[WaitConfig]):
    """Waits and hands on what came in, without keeping a worker busy meanwhile.

    Wait for a number of seconds, until a time, or until somebody resumes the execution from outside: at the address
    `execution.resume_urls.NODE`, which any node before it may send to whom it concerns. What is sent there becomes the
    output. Restarts do not disturb a wait, and it may last a year.
    """

    type = "wait"
    title = "Wait"
    category = Category.FLOW
    icon = "hourglass"
    inputs = (Port("input", DataType.ANY, "What is handed on."),)
    outputs = (Port("output", DataType.ANY, "What came in."),)
    example = {"seconds": 30}
    Config = WaitConfig

    def resume_methods(self, values: Mapping[str, Json]) -> Sequence[str]:
        if not values.get("external"):
            return ()
        return ("GET", "POST") if values.get("resume_by_get") else ("POST",)

    def run(self, config: WaitConfig, context: StepContext) -> Outcome:
        outputs: dict[str, Json] = {"output": passed_on(context.inputs)}
        at = _end(config, context.now())
        if at is not None and at > context.now() + timedelta(seconds=ONE_YEAR):
            raise ConfigError(f"until: {at.isoformat()} is too far away. {TOO_LONG}")
        if config.external:
            return Suspended(External(deadline=at), outputs)
        if at is None or at <= context.now():
            return Completed(outputs)
        return Suspended(Timer(at), outputs)


def _end(config: WaitConfig, now: datetime) -> datetime | None:
    if config.seconds is not None:
        return now + timedelta(seconds=config.seconds)
    return None if config.until is None else as_time(config.until)
