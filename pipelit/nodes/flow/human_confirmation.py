"""Asking a person before going on."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from marshmallow import fields, validate

from pipelit.errors import ConfigError, Invalid
from pipelit.nodes.base import StepConfig, StepContext, StepNode
from pipelit.nodes.outcome import Approval, Suspended
from pipelit.nodes.ports import Category, DataType, Json, Port
from pipelit.nodes.settings import config, nested, setting
from pipelit.nodes.values import as_time, described

LONGEST_PROMPT = 10_000
LONGEST_TEXT = 10_000
ONE_YEAR = 366 * 86_400
BLANK = "Write something besides white space, or leave it empty."
LABEL = r"^([\s\S]*\S[\s\S]*)?$(?!\n)"
FIELD_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,99}$(?!\n)"


@config
class FormField:
    """Something that the person is to fill in."""

    name: str = setting(
        fields.String(validate=validate.Regexp(FIELD_NAME, error="Use letters, digits and _.")),
        title="Name",
        help="What expressions call the value: data.NAME.",
        is_literal=True,
    )
    label: str = setting(
        fields.String(validate=[validate.Length(max=200), validate.Regexp(LABEL, error=BLANK)]),
        title="Label",
        help="What the person reads; empty shows the name.",
        default="",
    )
    type: str = setting(
        fields.String(validate=validate.OneOf(["text", "number", "boolean", "select", "date"])),
        title="Type",
        default="text",
        is_literal=True,
    )
    required: bool = setting(fields.Boolean(), title="Required", default=False, is_literal=True)
    options: Sequence[str] = setting(
        fields.List(fields.String(validate=validate.Length(1, 200)), validate=validate.Length(max=200)),
        title="Options",
        help="What a select offers.",
        default=[],
        visible_when={"type": "select"},
    )


@config
class HumanConfirmationConfig(StepConfig):
    """What is asked, who may answer, and what happens without an answer."""

    prompt: str = setting(
        fields.String(validate=validate.Length(min=1)), title="Question", help="What the person reads.", widget="text"
    )
    form: Sequence[FormField] = setting(
        nested(FormField, many=True, validate=validate.Length(max=50)),
        title="Form",
        help="What the person fills in when they approve.",
        default=[],
    )
    approvers: Sequence[str] = setting(
        fields.List(fields.String(validate=validate.Length(1, 150)), validate=validate.Length(max=50)),
        title="Approvers",
        help="Names of users who may answer, beside the owner and the editors of the workflow.",
        default=[],
    )
    timeout_seconds: float | None = setting(
        fields.Float(validate=validate.Range(1, ONE_YEAR, error="Between a second and a year (31622400 seconds).")),
        title="Time limit",
        help="Seconds until it is decided without an answer; empty waits for ever.",
        default=None,
    )
    on_timeout: str = setting(
        fields.String(validate=validate.OneOf(["approve", "reject", "fail"])),
        title="Without an answer",
        help="What happens when the time is over.",
        default="reject",
        is_literal=True,
    )

    @staticmethod
    def problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Fields have names of their own, and a select offers something."""
        form = [_part(field) for field in values.get("form") or ()]
        names = [name for name, _, _ in form]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield "form", f"Two fields are called '{name}'."
        for name, kind, options in form:
            if kind == "select" and not options:
                yield "form", f"The field '{name}' is a select: give it options."


class HumanConfirmation(StepNode[HumanConfirmationConfig]):
    """Asks a person, and goes on along `approved` or `rejected`.

    The question stands in the list of approvals until one of those who may answer does: the owner and the editors of
    the workflow, administrators, and the approvers named here. No worker waits meanwhile. `data` is what the person
    filled in; after a time limit it is empty.
    """

    type = "human_confirmation"
    title = "Human confirmation"
    category = Category.FLOW
    icon = "user-check"
    inputs = (Port("input", DataType.ANY, "Decides when the person is asked."),)
    outputs = (
        Port("data", DataType.OBJECT, "What the person filled in."),
        Port("approved", DataType.BOOLEAN, "Whether they approved."),
        Port("decided_by", DataType.STRING, "Who answered; null when the time limit decided."),
    )
    main_port = "data"
    example = {
        "prompt": "Refund {{ trigger.payload.total }}?",
        "form": [{"name": "reason", "label": "Why?", "type": "text", "required": True}],
        "timeout_seconds": 86400,
        "on_timeout": "reject",
    }
    Config = HumanConfirmationConfig

    def routes(self, values: Mapping[str, Json]) -> Sequence[str]:
        return ("approved", "rejected")

    def run(self, config: HumanConfirmationConfig, context: StepContext) -> Suspended:
        if len(config.prompt) > LONGEST_PROMPT:
            raise ConfigError(f"prompt: has {len(config.prompt)} characters; the limit is {LONGEST_PROMPT}.")
        limit = config.timeout_seconds
        deadline = None if limit is None else context.now() + timedelta(seconds=limit)
        form = [_described(field) for field in config.form]
        return Suspended(Approval(config.prompt, form, config.approvers, deadline, config.on_timeout))


def filled_in(form: Sequence[Mapping[str, Any]], data: Json, *, is_approved: bool) -> dict[str, Json]:
    """What a person filled in, checked. Raises `Invalid` with `data.…` paths; who rejects may leave everything out."""
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise Invalid("The data of a form is an object.", {"data": [f"Send an object, not {described(data)}."]})
    known = {field["name"]: field for field in form}
    errors = {f"data.{name}": ["The form has no such field."] for name in data if name not in known}
    for name, field in known.items():
        value = data.get(name)
        if value is None or value == "":
            if field["required"] and is_approved:
                errors[f"data.{name}"] = ["Fill in this field."]
        elif message := _objection(field, value):
            errors[f"data.{name}"] = [message]
    if errors:
        path, messages = next(iter(errors.items()))
        raise Invalid(f"{path}: {messages[0]}", errors)
    return {name: data.get(name) for name in known}


def _objection(field: Mapping[str, Any], value: Json) -> str | None:
    """What is wrong with a value for a field, if anything."""
    match field["type"]:
        case "number" if isinstance(value, bool) or not isinstance(value, int | float):
            return f"Send a number, not {described(value)}."
        case "boolean" if not isinstance(value, bool):
            return f"Send true or false, not {described(value)}."
        case "select" if value not in field["options"]:
            return f"Choose one of: {', '.join(field['options'])}."
        case "date" if not isinstance(value, str) or as_time(value) is None:
            return f"Send a date such as 2030-01-31, not {described(value)}."
        case "text" if not isinstance(value, str):
            return f"Send a text, not {described(value)}."
        case "text" if isinstance(value, str) and len(value) > LONGEST_TEXT:
            return f"At most {LONGEST_TEXT} characters."
        case _:
            return None


def _described(field: FormField) -> dict[str, Json]:
    return {
        "name": field.name,
        "label": field.label or field.name,
        "type": field.type,
        "required": field.required,
        "options": [*field.options],
    }


def _part(field: Any) -> tuple[str, str, Sequence[str]]:
    """Name, type and options of a field, as stored or loaded."""
    if isinstance(field, FormField):
        return field.name, field.type, field.options
    return field["name"], field.get("type", "text"), field.get("options") or ()
