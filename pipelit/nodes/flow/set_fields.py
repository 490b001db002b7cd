"""An object made from values."""

from marshmallow import fields as kinds

from pipelit.errors import ConfigError
from pipelit.nodes.base import StepConfig, StepContext, StepNode
from pipelit.nodes.inputs import passed_on
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Category, DataType, Json, Port
from pipelit.nodes.settings import config, setting
from pipelit.nodes.values import described


@config
class SetFieldsConfig(StepConfig):
    """The members of the object."""

    fields: dict[str, Json] = setting(
        kinds.Dict(keys=kinds.String(), values=kinds.Raw(allow_none=True)),
        title="Fields",
        help="Names and their values; an expression keeps its type.",
        widget="key_value",
    )
    keep_input: bool = setting(
        kinds.Boolean(),
        title="Keep the input",
        help="Add the fields to the object that came in, instead of starting with an empty one.",
        default=False,
    )


class SetFields(StepNode[SetFieldsConfig]):
    """Makes an object: renames, computes and picks values for what follows.

    Each field is a name and a value, mostly an expression. With "keep the input" the fields are added to the object
    that came in, and replace members of the same name.
    """

    type = "set_fields"
    title = "Set fields"
    category = Category.FLOW
    icon = "list-plus"
    inputs = (Port("input", DataType.ANY, "The object to add to, if it is to be kept."),)
    outputs = (Port("output", DataType.OBJECT, "The object."),)
    example = {"fields": {"greeting": "Hello {{ trigger.text }}", "total": "{{ trigger.payload.total }}"}}
    is_pure = True
    Config = SetFieldsConfig

    def run(self, config: SetFieldsConfig, context: StepContext) -> Completed:
        kept = passed_on(context.inputs) if config.keep_input and context.inputs else {}
        if not isinstance(kept, dict):
            raise ConfigError(f"keep_input: only an object can be added to, but the input is {described(kept)}.")
        return Completed({"output": {**kept, **config.fields}})
