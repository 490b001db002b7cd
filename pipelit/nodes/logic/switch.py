"""Choosing one of several ways by rules."""

from collections.abc import Iterable, Mapping, Sequence

from marshmallow import fields, validate

from pipelit.nodes.base import StepConfig, StepContext, StepNode
from pipelit.nodes.inputs import passed_on
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Category, DataType, Json, Port
from pipelit.nodes.rules import Condition, is_met, roots
from pipelit.nodes.settings import config, nested, setting


@config
class Rule(Condition):
    """A condition and the route to take when it holds."""

    route: str = setting(
        fields.String(validate=validate.Length(min=1, max=100)),
        title="Route",
        help="Edges from this node name it.",
        widget="route",
        is_literal=True,
    )


@config
class SwitchConfig(StepConfig):
    """Rules in the order in which they are asked."""

    rules: Sequence[Rule] = setting(
        nested(Rule, many=True, validate=validate.Length(max=100)), title="Rules", default=[], widget="rules"
    )
    default: str = setting(
        fields.String(validate=validate.Length(min=1, max=100)),
        title="Otherwise",
        help="The route when no rule holds.",
        default="default",
        widget="route",
        is_literal=True,
    )


class Switch(StepNode[SwitchConfig]):
    """Chooses the way on: the route of the first rule that holds, or the default.

    Each conditional edge from this node names a route and is taken when that route is chosen; what stands behind the
    others is skipped. A rule's field is a path: `trigger.payload.type`, `hook.body.vip`, `loop.item.price`; an empty
    one means the value that came in. Values compare by their sense: the text "5" equals the number 5. A rule on a path
    that leads nowhere does not hold. What came in is handed on unchanged as `output`.
    """

    type = "switch"
    title = "Switch"
    category = Category.LOGIC
    icon = "split"
    inputs = (Port("input", DataType.ANY, "What is handed on."),)
    outputs = (
        Port("route", DataType.STRING, "The route that was chosen."),
        Port("output", DataType.ANY, "What came in."),
    )
    example = {
        "rules": [
            {"field": "trigger.payload.vip", "operator": "is_true", "route": "vip"},
            {"field": "trigger.payload.total", "operator": "gte", "value": 100, "route": "large"},
        ],
        "default": "normal",
    }
    is_pure = True
    Config = SwitchConfig

    def routes(self, values: Mapping[str, Json]) -> Sequence[str]:
        named = [rule.get("route") for rule in _rules(values)]
        default = values.get("default", "default")
        return tuple(dict.fromkeys(route for route in [*named, default] if isinstance(route, str)))

    def reads(self, values: Mapping[str, Json]) -> Iterable[str]:
        return roots(_rules(values))

    def run(self, config: SwitchConfig, context: StepContext) -> Completed:
        output = passed_on(context.inputs)
        met = (rule.route for rule in config.rules if is_met(rule, context.values if rule.field else output))
        route = next(met, config.default)
        return Completed({"route": route, "output": output}, route=route)


def _rules(values: Mapping[str, Json]) -> list[dict[str, Json]]:
    rules = values.get("rules")
    return [rule for rule in rules if isinstance(rule, dict)] if isinstance(rules, list) else []
