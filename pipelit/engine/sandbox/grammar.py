"""Which constructs of Jinja2 an expression may use. Everything not listed is refused before it is compiled."""

import math
from collections.abc import Callable, Iterator
from difflib import get_close_matches

from jinja2 import nodes

from pipelit.engine.sandbox.filters import FILTERS, TESTS
from pipelit.engine.sandbox.methods import FUNCTIONS, METHODS

ALLOWED: tuple[type[nodes.Node], ...] = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Assign, nodes.AssignBlock, nodes.With,
    nodes.Name, nodes.NSRef, nodes.Const, nodes.Tuple, nodes.List, nodes.Dict, nodes.Pair, nodes.Keyword,
    nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Call, nodes.Getitem, nodes.Getattr, nodes.Slice, nodes.Concat,
    nodes.Compare, nodes.Operand, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow,
    nodes.Not, nodes.Neg, nodes.Pos, nodes.And, nodes.Or,
)  # fmt: skip

MAX_NODES = 20_000


def problems(template: nodes.Template) -> Iterator[tuple[int, str]]:
    """Line and reason of everything in a template that expressions do not have."""
    waiting: list[nodes.Node] = [template]
    seen = 0
    while waiting:
        node = waiting.pop()
        seen += 1
        if seen > MAX_NODES:
            yield node.lineno, "the template is too long"
            return
        if reason := _reason_against(node):
            yield node.lineno, reason
        waiting.extend(node.iter_child_nodes())


def _reason_against(node: nodes.Node) -> str | None:
    match node:
        case nodes.For(recursive=True):
            return "loops cannot be recursive"
        case nodes.AssignBlock() if node.filter is not None:
            return "a set block cannot have filters; filter the variable where it is used"
        case nodes.Const(value=float() as number) if not math.isfinite(number):
            return "a number is too large"
        case nodes.Filter():
            return _unknown("filter", node.name, FILTERS)
        case nodes.Test():
            return _unknown("test", node.name, TESTS)
        case nodes.Call():
            return _reason_against_call(node.node)
        case _ if type(node) not in ALLOWED:
            return f"'{type(node).__name__.lower()}' is not available in expressions"
    return None


def _reason_against_call(called: nodes.Expr) -> str | None:
    match called:
        case nodes.Name():
            hint = f"; write it as a filter: value | {called.name}" if called.name in FILTERS else ""
            return None if called.name in FUNCTIONS else f"there is no function '{called.name}'{hint}"
        case nodes.Getattr():
            hint = f"; write it as a filter: value | {called.attr}" if called.attr in FILTERS else ""
            return None if called.attr in METHODS else f"there is no method '{called.attr}'{hint}"
    return "only functions and methods can be called"


def _unknown(what: str, name: str, known: dict[str, Callable[..., object]]) -> str | None:
    if name in known:
        return None
    close = get_close_matches(name[:100], known, 1)
    return f"there is no {what} '{name[:100]}'" + (f"; did you mean '{close[0]}'?" if close else "")
