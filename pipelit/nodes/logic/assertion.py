"""Checking that something is as it should be."""

from collections.abc import Iterable, Mapping, Sequence

from marshmallow import fields, validate

from pipelit.errors import AssertionFailed
from pipelit.nodes.base import StepConfig, StepContext, StepNode
from pipelit.nodes.inputs import passed_on
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Category, DataType, Json, Port
from pipelit.nodes.rules import Condition, is_met, roots
from pipelit.nodes.settings import config, nested, setting
from pipelit.nodes.values import described, find


@config
class AssertionConfig(StepConfig):
    """What must hold, and what happens if it does not."""

    rules: Sequence[Condition] = setting(
        nested(Condition, many=True, validate=validate.Length(min=1, max=100), name="Condition"),
        title="Rules",
        help="All of them must hold.",
        widget="rules",
    )
    fail_execution: bool = setting(
        fields.Boolean(),
        title="Fail the execution",
        help="Otherwise the route fail is taken.",
        default=False,
        is_literal=True,
    )


class Assertion(StepNode[AssertionConfig]):
    """Checks that all rules hold and takes the route `pass`, or else the route `fail`.

    With "fail the execution" a rule that does not hold makes the step fail, with a message that names the rule and what
    was found. Fields are paths as in a switch; an empty one means the value that came in. What came in is handed on
    unchanged as `output`.
    """

    type = "assertion"
    title = "Assertion"
    category = Category.LOGIC
    icon = "shield-check"
    inputs = (Port("input", DataType.ANY, "What is handed on."),)
    outputs = (
        Port("passed", DataType.BOOLEAN, "Whether all rules held."),
        Port("results", DataType.ARRAY, "For each rule: field, operator, value, whether it held, and what was found."),
        Port("output", DataType.ANY, "What came in."),
    )
    example = {"rules": [{"field": "trigger.payload.total", "operator": "gt", "value": 0}], "fail_execution": False}
    is_pure = True
    Config = AssertionConfig

    def routes(self, values: Mapping[str, Json]) -> Sequence[str]:
        return ("pass", "fail")

    def reads(self, values: Mapping[str, Json]) -> Iterable[str]:
        rules = values.get("rules")
        return roots(rule for rule in rules if isinstance(rule, dict)) if isinstance(rules, list) else ()

    def run(self, config: AssertionConfig, context: StepContext) -> Completed:
        output = passed_on(context.inputs)
        results = [_result(rule, context.values if rule.field else output) for rule in config.rules]
        failed = [result for result in results if not result["passed"]]
        if failed and config.fail_execution:
            raise AssertionFailed("; ".join(_sentence(result) for result in failed[:3]))
        outputs: dict[str, Json] = {"passed": not failed, "results": [*results], "output": output}
        return Completed(outputs, route="fail" if failed else "pass")


def _result(rule: Condition, root: object) -> dict[str, Json]:
    return {
        "field": rule.field,
        "operator": rule.operator,
        "value": rule.value,
        "passed": is_met(rule, root),
        "found": described(find(root, rule.field)),
    }


def _sentence(result: Mapping[str, Json]) -> str:
    wanted = str(result["operator"]).replace("_", " ")
    value = "" if result["value"] is None else f" {described(result['value'])}"
    return f"{result['field'] or 'the input'} should be: {wanted}{value}; found {result['found']}"
