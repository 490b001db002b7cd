"""Expressions in a node's config: which outputs they read, whether they are well written, and what they come to.

`{{ hook.body.name }}` and everything else of Jinja2 that computes, in the sandbox of `pipelit.engine.sandbox`.
A text that is exactly one expression keeps the type of its value; anything else becomes text.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from jinja2 import TemplateError, TemplateSyntaxError, UndefinedError, nodes

from pipelit.engine.sandbox import grammar
from pipelit.engine.sandbox.environment import RESULT, Render, RenderContext, Sandbox
from pipelit.engine.sandbox.limits import MAX_SOURCE, MAX_TEXT, Budget, LimitReached
from pipelit.engine.sandbox.values import ABSENT, explain, lookup, not_there, to_data
from pipelit.errors import ExpressionError
from pipelit.nodes.fields import is_template
from pipelit.nodes.ports import Json

MAX_NESTING = 100
"""Levels of lists and objects inside one another that a config may have."""
LONGEST_MESSAGE = 500

_SANDBOX = Sandbox()


class NotATemplate(Exception):
    """Text that the template language does not have; the message says why."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A template ready to be rendered. `path` stands for a template that only says where to look."""

    names: frozenset[str]
    render: Render
    is_exact: bool
    path: tuple[str | int, ...] = ()


def resolve(value: Json, scope: Mapping[str, Json], *, field: str, budget: Callable[[], Budget] = Budget) -> Json:
    """`value` with every template in it replaced by what it comes to; a value without templates is returned as it is.

    `scope` holds what expressions see, by name; names that no template mentions are not read. `field` is what the
    config is called in the message of an `ExpressionError`, the only error there is; it may be empty.
    """
    return _Resolving(scope, budget).value(value, field, 0)


def names(value: Json) -> frozenset[str]:
    """The names that templates anywhere in `value` read from their scope; broken ones read nothing."""
    found: set[str] = set()
    for _, source in _templates(value, ""):
        try:
            found |= _compiled(source).names
        except NotATemplate:
            continue
    return frozenset(found)


def syntax_problems(value: Json, field: str) -> list[tuple[str, str]]:
    """Field path and message of every template in `value` that cannot be used. Nothing is rendered."""
    problems: list[tuple[str, str]] = []
    for path, source in _templates(value, field):
        try:
            _compiled(source)
        except NotATemplate as error:
            problems.append((path, str(error)))
    return problems


class _Resolving:
    """One config being resolved."""

    def __init__(self, scope: Mapping[str, Json], budget: Callable[[], Budget]) -> None:
        self._scope = scope
        self._make_budget = budget
        self._budget: Budget | None = None

    def value(self, value: Json, field: str, depth: int) -> Json:
        if isinstance(value, str):
            return self._text(value, field) if is_template(value) else value
        if not value or not isinstance(value, list | dict):
            return value
        if depth > MAX_NESTING:
            _fail(field, f"the value has more than {MAX_NESTING} levels")
        if isinstance(value, dict):
            changed = {key: self.value(item, _beneath(field, key), depth + 1) for key, item in value.items()}
            return changed if any(changed[key] is not item for key, item in value.items()) else value
        items = [self.value(item, _beneath(field, index), depth + 1) for index, item in enumerate(value)]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value

    def _text(self, source: str, field: str) -> Json:
        try:
            template = _compiled(source)
        except NotATemplate as error:
            _fail(field, str(error))
        return self._follow(template.path, field) if template.path else self._rendered(template, field)

    def _follow(self, path: tuple[str | int, ...], field: str) -> Json:
        """Where most expressions lead: from name to name through the data, without any code of a template."""
        root, *keys = path
        if root not in self._scope:
            _fail(field, not_there(str(root), self._scope))
        found: object = self._scope[str(root)]
        for position, key in enumerate(keys):
            held = lookup(found, key)
            if held is ABSENT:
                _fail(field, explain(_path_text(path[: position + 2]), found, key))
            found = held
        return found  # type: ignore[return-value]  # a part of JSON is JSON

    def _rendered(self, template: Compiled, field: str) -> Json:
        if self._budget is None:
            self._budget = self._make_budget()
        context = RenderContext(_SANDBOX, self._scope, self._budget)
        try:
            text = _text_of(template.render(context))
            return to_data(context.vars[RESULT]) if template.is_exact else text
        except UndefinedError as error:
            _fail(field, self._with_known_names(str(error), template))
        except LimitReached as error:
            _fail(field, f"the expression asks for too much: {error}")
        except (RecursionError, OverflowError):
            _fail(field, "the expression asks for too much: a number is too large, or values are nested too deeply")
        except Exception as error:  # whatever an author's template raises is the author's to mend
            _fail(field, str(error) or type(error).__name__)

    def _with_known_names(self, message: str, template: Compiled) -> str:
        for name in template.names:
            if message == not_there(name) and name not in self._scope:
                return not_there(name, self._scope)
        return message


def _text_of(parts: Iterator[str]) -> str:
    collected: list[str] = []
    size = 0
    for part in parts:
        size += len(part)
        if size > MAX_TEXT:
            raise LimitReached(f"the text is longer than {MAX_TEXT} characters")
        collected.append(part)
    return "".join(collected)


def _fail(field: str, message: str) -> NoReturn:
    # Data may hold halves of characters, which nobody who writes the message down could encode.
    said = (f"{field}: {message}" if field else message).encode("utf-8", "replace").decode()
    raise ExpressionError(said if len(said) <= LONGEST_MESSAGE else f"{said[:LONGEST_MESSAGE]}…") from None


def _templates(value: Json, field: str) -> Iterator[tuple[str, str]]:
    """Path and source of every template in a value."""
    waiting: list[tuple[str, Json]] = [(field, value)]
    while waiting:
        path, part = waiting.pop()
        if isinstance(part, str):
            if is_template(part):
                yield path, part
        elif isinstance(part, dict):
            waiting.extend((_beneath(path, key), item) for key, item in reversed(part.items()))
        elif isinstance(part, list):
            waiting.extend((_beneath(path, index), item) for index, item in reversed(list(enumerate(part))))


def _beneath(field: str, key: str | int) -> str:
    return f"{field}.{key}" if field else str(key)


@lru_cache(maxsize=2048)
def _compiled(source: str) -> Compiled:
    """The template, compiled once. Raises `NotATemplate`, naming the line when there are several."""
    if len(source) > MAX_SOURCE:
        raise NotATemplate(f"the template is longer than {MAX_SOURCE} characters")
    try:
        tree = _SANDBOX.parse(source)
        for line, problem in grammar.problems(tree):
            raise NotATemplate(_at_line(source, line, problem))
        expression = _only_expression(tree)
        if expression is None:
            render, found = _SANDBOX.build(tree)
            return Compiled(found, render, is_exact=False)
        path = _path(expression)
        assignment = nodes.Assign(nodes.Name(RESULT, "store"), expression, lineno=1)
        render, found = _SANDBOX.build(nodes.Template([assignment], lineno=1))
        return Compiled(found, render, is_exact=True, path=path)
    except TemplateSyntaxError as error:
        raise NotATemplate(_at_line(source, error.lineno, error.message or "it cannot be read")) from None
    except (RecursionError, MemoryError):
        # CPython's parser reports code that is nested too deeply in either way.
        raise NotATemplate("the template is nested too deeply") from None
    except (SyntaxError, ValueError, OverflowError, TemplateError) as error:
        # What Jinja2 lets through and Python does not compile: a number of thousands of digits, a hundred brackets.
        raise NotATemplate(f"the template cannot be compiled: {error}") from None


def _at_line(source: str, line: int, message: str) -> str:
    return f"line {line}: {message}" if "\n" in source.strip() else message


def _only_expression(tree: nodes.Template) -> nodes.Expr | None:
    """The expression, if there is nothing else; a line's end behind it does not count."""
    if len(tree.body) != 1 or not isinstance(tree.body[0], nodes.Output):
        return None
    match tree.body[0].nodes:
        case [expression] | [expression, nodes.TemplateData(data="\n")] if not isinstance(
            expression, nodes.TemplateData
        ):
            return expression
    return None


def _path(expression: nodes.Expr) -> tuple[str | int, ...]:
    """The way an expression goes, if it only goes from name to name; otherwise nothing."""
    keys: list[str | int] = []
    node = expression
    while True:
        match node:
            case nodes.Name():
                return (node.name, *reversed(keys))
            case nodes.Getattr():
                keys.append(node.attr)
            case nodes.Getitem(arg=nodes.Const(value=(str() | int()) as key)):
                keys.append(key)
            case _:
                return ()
        node = node.node


def _path_text(path: tuple[str | int, ...]) -> str:
    """A path as an author would write it."""
    return re.sub(r"\.(-?\d+)(?=\.|$)", r"[\1]", ".".join(map(str, path)))
