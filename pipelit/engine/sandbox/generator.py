"""The Python code that a template becomes, in which everything passes through the sandbox."""

from collections.abc import Iterable
from io import StringIO

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.environment import Environment

EACH = "for each"
"""Marks what a loop goes through; no filter can have such a name."""


class Generator(CodeGenerator):
    """Writes code that reaches values only through the methods of the `Sandbox`; the names it needs are in `roots`."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment, None, None, StringIO(), optimized=False)
        self.roots: set[str] = set()

    @property
    def code(self) -> str:
        """The code written so far."""
        assert isinstance(self.stream, StringIO)
        return self.stream.getvalue()

    def enter_frame(self, frame: Frame) -> None:
        super().enter_frame(frame)
        for action, name in frame.symbols.loads.values():
            if action == "resolve" and name is not None:
                self.roots.add(name)

    def write_commons(self) -> None:
        super().write_commons()
        # An `if` without `else` is as missing as a name that is not there.
        self.writeline("cond_expr_undefined = undefined")

    def pull_dependencies(self, nodes: Iterable[nodes.Node]) -> None:
        """Filters and tests are looked up when they are called."""

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        node.iter = nodes.Filter(node.iter, EACH, [], [], None, None, lineno=node.lineno)
        super().visit_For(node, frame)

    def visit_Filter(self, node: nodes.Filter, frame: Frame) -> None:
        assert node.node is not None
        if node.name == EACH:
            self._call("each(context, ", node.node, frame)
            self.write(")")
            return
        self._call(f"call_filter({node.name!r}, ", node.node, frame)
        self._arguments(node, frame)

    def visit_Test(self, node: nodes.Test, frame: Frame) -> None:
        self._call(f"call_test({node.name!r}, ", node.node, frame)
        self._arguments(node, frame)

    def visit_Getattr(self, node: nodes.Getattr, frame: Frame) -> None:
        self._call("attribute(", node.node, frame)
        self.write(f", {node.attr!r}, {path_text(node)!r})")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if isinstance(node.arg, nodes.Slice):
            self._call("cut(context, ", node.node, frame)
            for bound in (node.arg.start, node.arg.stop, node.arg.step):
                self.write(", ")
                self.visit(bound or nodes.Const(None), frame)
            self.write(")")
            return
        self._call("attribute(", node.node, frame)
        self.write(", ")
        self.visit(node.arg, frame)
        self.write(f", {path_text(node)!r})")

    def visit_Call(self, node: nodes.Call, frame: Frame, forward_caller: bool = False) -> None:
        if isinstance(node.node, nodes.Getattr):
            self._call("call_method(context, ", node.node.node, frame)
            self.write(f", {node.node.attr!r}")
        else:
            assert isinstance(node.node, nodes.Const)
            self.write(f"environment.call_function(context, {node.node.value!r}")
        self.signature(node, frame)
        self.write(")")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concatenate(context, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        self.write("(context.budget.tick() and ")
        super().visit_Compare(node, frame)
        self.write(")")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self.write("environment.literal(context, ")
        super().visit_List(node, frame)
        self.write(")")

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self.write("environment.literal(context, ")
        super().visit_Dict(node, frame)
        self.write(")")

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx != "load":
            super().visit_Tuple(node, frame)
            return
        self.write("environment.literal(context, ")
        super().visit_Tuple(node, frame)
        self.write(")")

    def _call(self, opening: str, first: nodes.Expr, frame: Frame) -> None:
        self.write(f"environment.{opening}")
        self.visit(first, frame)

    def _arguments(self, node: nodes.Filter | nodes.Test, frame: Frame) -> None:
        """The arguments of a filter or test as a tuple and a dictionary, and the end of the call."""
        self.write(", (")
        for argument in node.args:
            self.visit(argument, frame)
            self.write(", ")
        if node.dyn_args is not None:
            self.write("*")
            self.visit(node.dyn_args, frame)
            self.write(", ")
        self.write("), {")
        for keyword in node.kwargs:
            self.write(f"{keyword.key!r}: ")
            self.visit(keyword.value, frame)
            self.write(", ")
        if node.dyn_kwargs is not None:
            self.write("**")
            self.visit(node.dyn_kwargs, frame)
        self.write("}, context)")


def path_text(node: nodes.Expr) -> str:
    """How an expression leads to a value, in words that a message can use: `hook.body.items[0]`."""
    match node:
        case nodes.Name():
            return node.name
        case nodes.Getattr():
            return f"{path_text(node.node)}.{node.attr}"
        case nodes.Getitem(arg=nodes.Const(value=str() as key)):
            return f"{path_text(node.node)}.{key}"
        case nodes.Getitem(arg=nodes.Const(value=index)):
            return f"{path_text(node.node)}[{index}]"
        case nodes.Getitem():
            return f"{path_text(node.node)}[…]"
    return "…"
