"""Text made from values."""

from marshmallow import validate

from pipelit.nodes.base import StepConfig, StepContext, StepNode
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Category, DataType, Json, Port
from pipelit.nodes.settings import Expression, config, setting


@config
class TemplateConfig(StepConfig):
    """The text."""

    template: Json = setting(
        Expression(validate=validate.Length(max=100_000)),
        title="Template",
        help="Text with {{ expressions }} and {% statements %}.",
        widget="template",
    )


class Template(StepNode[TemplateConfig]):
    """Writes a text with values in it.

    `Hello {{ trigger.text }}` gives text. A template that is one expression and nothing else gives the value as it is:
    `{{ hook.body.tags }}` stays a list.
    """

    type = "template"
    title = "Template"
    category = Category.FLOW
    icon = "text"
    inputs = (Port("input", DataType.ANY, "Decides when the node runs; values are read by expressions."),)
    outputs = (Port("output", DataType.STRING, "The text, or the value of a single expression."),)
    example = {"template": "Hello {{ trigger.text }}!"}
    is_pure = True
    Config = TemplateConfig

    def run(self, config: TemplateConfig, context: StepContext) -> Completed:
        return Completed({"output": config.template})
