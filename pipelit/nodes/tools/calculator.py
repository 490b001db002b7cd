"""Arithmetic."""

from marshmallow import validate

from pipelit.errors import ConfigError
from pipelit.nodes.arithmetic import ArithmeticProblem, evaluate
from pipelit.nodes.base import StepConfig, StepContext, StepNode
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Category, DataType, Json, Port
from pipelit.nodes.settings import Expression, config, setting
from pipelit.nodes.values import described


@config
class CalculatorConfig(StepConfig):
    """What to compute."""

    expression: Json = setting(
        Expression(validate=validate.Length(min=1, max=1_000)),
        title="Expression",
        help="Arithmetic; values come in by {{ expressions }}.",
        widget="expression",
    )


class Calculator(StepNode[CalculatorConfig]):
    """Computes an arithmetic expression such as `({{ trigger.payload.total }} + 4.9) * 1.19`.

    Known are numbers, `+ - * / // % **`, parentheses, `pi`, `e`, `tau`, and functions: abs, ceil, floor, round, trunc,
    min, max, sum, gcd, factorial, sqrt, exp, log, log2, log10, sin, cos, tan, asin, acos, atan, atan2, hypot, degrees,
    radians. Decimal fractions are exact: 0.1 + 0.2 is 0.3. Numbers have at most 300 digits.
    """

    type = "calculator"
    title = "Calculator"
    category = Category.TOOL
    icon = "calculator"
    inputs = (Port("input", DataType.ANY, "Decides when the node runs; values are read by expressions."),)
    outputs = (Port("result", DataType.NUMBER, "The value of the expression."),)
    main_port = "result"
    example = {"expression": "{{ trigger.payload.total }} * 1.19"}
    is_pure = True
    is_tool = True
    Config = CalculatorConfig

    def run(self, config: CalculatorConfig, context: StepContext) -> Completed:
        match config.expression:
            case bool():
                raise ConfigError(f"expression: {described(config.expression)} is not a number.")
            case int() | float() as number:
                return Completed({"result": number})
            case str() as text:
                try:
                    return Completed({"result": evaluate(text)})
                except ArithmeticProblem as problem:
                    raise ConfigError(f"expression: {problem}.") from problem
            case other:
                raise ConfigError(f"expression: there should be arithmetic, but it is {described(other)}.")
