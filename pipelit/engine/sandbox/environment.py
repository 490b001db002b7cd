"""The Jinja2 environment of expressions: what their code calls to reach values, to compute and to write text."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.environment import Template
from jinja2.nodes import EvalContext
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipelit.engine.sandbox import methods
from pipelit.engine.sandbox.filters import FILTERS, TESTS, TEXT_FILTERS, check_value
from pipelit.engine.sandbox.generator import Generator
from pipelit.engine.sandbox.limits import Budget, check_size
from pipelit.engine.sandbox.values import ABSENT, Missing, kind, lookup, measure, settled, to_text
from pipelit.nodes.ports import Json

RESULT = "_result"
Render = Callable[["RenderContext"], Iterator[str]]


class RenderContext(Context):
    """The names a template sees, and what it may still use."""

    def __init__(self, environment: "Sandbox", scope: Mapping[str, Json], budget: Budget) -> None:
        # Jinja2 says dict, and only ever reads.
        super().__init__(environment, scope, None, {})  # type: ignore[arg-type]
        self.budget = budget


@pass_context
def _finalize(context: RenderContext, value: object) -> str:
    """The text of what stands between `{{` and `}}`."""
    context.budget.tick()
    text = to_text(value)
    context.budget.keep(text)
    return text


def _joined(parts: Iterable[str]) -> str:
    found = list(parts)
    check_size(sum(map(len, found)))
    return "".join(found)


class Sandbox(ImmutableSandboxedEnvironment):
    """Compiles templates, and is what the compiled code calls. Jinja2's own sandbox stays beneath it."""

    context_class = RenderContext
    intercepted_binops = frozenset(methods.OPERATORS)
    concat = staticmethod(_joined)

    def __init__(self) -> None:
        super().__init__(
            undefined=Missing, finalize=_finalize, keep_trailing_newline=True, optimized=False, cache_size=0
        )
        self.globals.clear()
        self.filters.clear()
        self.filters.update(FILTERS)
        self.tests.clear()
        self.tests.update(TESTS)

    def build(self, template: nodes.Template) -> tuple[Render, frozenset[str]]:
        """The function that renders a template that `grammar` has no problem with, and the names it needs."""
        for call in template.find_all(nodes.Call):
            if isinstance(call.node, nodes.Name):
                # A function is no variable: nothing can be looked up in it, and no node can hide it.
                call.node = nodes.Const(call.node.name, lineno=call.lineno)
        generator = Generator(self)
        generator.visit(template)
        code = compile(generator.code, "<template>", "exec")
        built = Template.from_code(self, code, {})
        render: Any = built.root_render_func
        return render, frozenset(generator.roots)

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.attribute(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        return self.attribute(obj, argument)

    def attribute(self, holder: object, key: object, path: str = "") -> object:
        """What `holder` holds under `key`, or a `Missing`; of what is missing already, the first."""
        if isinstance(holder, Missing):
            return holder
        found = lookup(holder, key)
        return Missing(obj=holder, name=str(key), path=path) if found is ABSENT else found

    def cut(self, context: RenderContext, whole: object, start: Any, stop: Any, step: Any) -> object:
        """`whole[start:stop:step]`"""
        if isinstance(whole, Missing):
            whole.fail()
        if not isinstance(whole, str | list | tuple):
            raise TypeError(f"{kind(whole)} cannot be cut into slices")
        made = whole[slice(start, stop, step)]
        context.budget.keep(made)
        return made

    def each(self, context: RenderContext, items: Any) -> Iterator[Any]:
        """What a loop goes through."""
        if isinstance(items, Missing):
            items.fail()
        if not isinstance(items, list | tuple | dict | str):
            raise TypeError(f"{kind(items)} cannot be looped over")
        for item in items:
            context.budget.tick()
            yield item

    def literal(self, context: RenderContext, made: Any) -> Any:
        """A list or an object written in the template."""
        context.budget.tick()
        measure(made)
        context.budget.keep(made)
        return made

    def concatenate(self, context: RenderContext, parts: Sequence[object]) -> str:
        """`a ~ b ~ c`"""
        context.budget.tick()
        made = _joined(map(to_text, parts))
        context.budget.keep(made)
        return made

    def call_function(self, context: RenderContext, name: str, /, *args: object, **kwargs: object) -> object:
        context.budget.tick()
        made = methods.FUNCTIONS[name](*args, **kwargs)
        context.budget.keep(made)
        return made

    def call_method(
        self, context: RenderContext, holder: object, name: str, /, *args: object, **kwargs: object
    ) -> object:
        context.budget.tick()
        made = methods.method(holder, name)(holder, *args, **kwargs)
        context.budget.keep(made)
        return made

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        assert isinstance(context, RenderContext)
        for value in (left, right):
            if isinstance(value, Missing):
                value.fail()
        context.budget.tick()
        made = methods.OPERATORS[operator](left, right)
        context.budget.keep(made)
        return made

    def call_filter(
        self,
        name: str,
        value: Any,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        context: Context | None = None,
        eval_ctx: EvalContext | None = None,
    ) -> Any:
        assert isinstance(context, RenderContext)
        context.budget.tick()
        if name in TEXT_FILTERS:
            value = to_text(value)
        else:
            check_value(name, value)
        made = settled(super().call_filter(name, value, args, kwargs, context, eval_ctx))
        context.budget.keep(made)
        return made

    def call_test(
        self,
        name: str,
        value: Any,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        context: Context | None = None,
        eval_ctx: EvalContext | None = None,
    ) -> Any:
        assert isinstance(context, RenderContext)
        context.budget.tick()
        return super().call_test(name, value, args, kwargs, context, eval_ctx)
