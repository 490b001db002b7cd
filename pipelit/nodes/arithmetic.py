"""Computing an arithmetic expression: exactly, within bounds, and without ever running code.

The text is parsed by Python's own parser, and only a few kinds of nodes in its tree are known here. Numbers are
fractions, so that 0.1 + 0.2 is 0.3; functions such as `sqrt`, and powers whose fraction would be very long, compute
with floating point.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction

MAX_LENGTH = 1_000
MAX_DEPTH = 200
MAX_DIGITS = 300
"""Of a number before its point, and of the numerator and denominator of a fraction in between."""

LARGEST = 10**MAX_DIGITS
FINEST = 10 ** (4 * MAX_DIGITS)


class ArithmeticProblem(ValueError):
    """The expression cannot be computed; the message says why, in words for its author."""


def evaluate(text: str) -> int | float:
    """The value of the expression, an integer if it is whole. Raises `ArithmeticProblem`."""
    if len(text) > MAX_LENGTH:
        raise ArithmeticProblem(f"it has {len(text)} characters; {MAX_LENGTH} are the limit")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ArithmeticProblem(f"'{_shortened(text)}' is not an arithmetic expression") from None
    value = _value(tree.body, 0)
    return int(value) if value.denominator == 1 else float(value)


def _value(node: ast.AST, depth: int) -> Fraction:
    if depth > MAX_DEPTH:
        raise ArithmeticProblem("it is nested too deeply")
    match node:
        case ast.Constant(value=bool() | complex() as other):
            raise ArithmeticProblem(f"'{other}' is not a number")
        case ast.Constant(value=int() | float() as number):
            return _literal(number)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            value = _value(operand, depth + 1)
            return -value if isinstance(sign, ast.USub) else value
        case ast.BinOp(left=left, op=operation, right=right):
            return _combine(operation, _value(left, depth + 1), _value(right, depth + 1))
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.Name(id=name):
            raise ArithmeticProblem(f"'{name}' is not known; values come in by expressions such as {{{{ node.port }}}}")
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            return _call(name, [_value(argument, depth + 1) for argument in args])
        case _:
            raise ArithmeticProblem("only numbers, + - * / // % **, parentheses and functions are known")


def _literal(number: int | float) -> Fraction:
    if isinstance(number, float) and not math.isfinite(number):
        raise ArithmeticProblem("a number is too large")
    # Through its text: 0.1 means a tenth, not the binary fraction next to it.
    return _bounded(Fraction(repr(number)))


def _combine(operation: ast.operator, left: Fraction, right: Fraction) -> Fraction:
    if isinstance(operation, ast.Pow):
        return _power(left, right)
    if isinstance(operation, ast.BitXor):
        raise ArithmeticProblem("'^' is not known; a power is written **")
    compute = OPERATIONS.get(type(operation))
    if compute is None:
        raise ArithmeticProblem("only + - * / // % ** combine numbers")
    try:
        return _bounded(Fraction(compute(left, right)))
    except ZeroDivisionError:
        raise ArithmeticProblem("it divides by zero") from None


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if base == 0 and exponent < 0:
        raise ArithmeticProblem("it divides by zero")
    if exponent.denominator != 1:
        return _float("**", lambda: float(base) ** float(exponent))
    size = max(abs(base.numerator), base.denominator)
    # Judged before it is computed: 9**9**9 would fill the memory.
    if size > 1 and abs(exponent) * math.log10(size) > 4 * MAX_DIGITS:
        return _float("**", lambda: float(base) ** float(exponent))
    return _bounded(Fraction(base ** int(exponent)))


def _call(name: str, arguments: list[Fraction]) -> Fraction:
    known = EXACT.get(name) or FLOATING.get(name)
    if known is None:
        raise ArithmeticProblem(f"the function '{_shortened(name)}' is not known; there are {', '.join(FUNCTIONS)}")
    function, least, most = known
    if not least <= len(arguments) <= most:
        raise ArithmeticProblem(f"{name} takes {_count(least, most)}, not {len(arguments)}")
    if name in EXACT:
        return _bounded(Fraction(function(*arguments)))
    return _float(name, lambda: float(function(*(float(argument) for argument in arguments))))


def _float(name: str, compute: Callable[[], object]) -> Fraction:
    """What a floating-point computation gives, if that is a number."""
    try:
        result = compute()
    except (ValueError, ZeroDivisionError):
        raise ArithmeticProblem(f"{name} has no value there") from None
    except OverflowError:
        raise ArithmeticProblem("a number is too large") from None
    if not isinstance(result, float) or not math.isfinite(result):
        raise ArithmeticProblem(f"{name} has no real value there")
    return _bounded(Fraction(repr(result)))


def _bounded(value: Fraction) -> Fraction:
    if abs(value) >= LARGEST:
        raise ArithmeticProblem("a number is too large")
    if value.denominator >= FINEST:
        # A fraction of that many digits differs from the nearest floating-point number by nothing that would be seen.
        return Fraction(float(value))
    return value


def _round(value: Fraction, digits: Fraction = Fraction(0)) -> Fraction:
    """Half to even, as Python does, and at most 30 places behind the point."""
    return Fraction(round(value, _whole("round", digits, 30)))


def _factorial(value: Fraction) -> Fraction:
    if value < 0:
        raise ArithmeticProblem("factorial has no value there")
    return Fraction(math.factorial(_whole("factorial", value, 150)))


def _gcd(*values: Fraction) -> Fraction:
    return Fraction(math.gcd(*(_whole("gcd", value, LARGEST) for value in values)))


def _whole(name: str, value: Fraction, largest: int) -> int:
    if value.denominator != 1 or abs(value) > largest:
        raise ArithmeticProblem(f"{name} needs a whole number of at most {_shortened(str(largest))}")
    return int(value)


def _count(least: int, most: int) -> str:
    if least == most:
        return f"{least} number{'s' if least > 1 else ''}"
    return f"{least} or more numbers" if most == MAX_LENGTH else f"{least} to {most} numbers"


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"


OPERATIONS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction | int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
CONSTANTS: Mapping[str, Fraction] = {name: Fraction(repr(getattr(math, name))) for name in ("pi", "e", "tau")}
EXACT: Mapping[str, tuple[Callable[..., Fraction | int], int, int]] = {
    "abs": (abs, 1, 1),
    "ceil": (math.ceil, 1, 1),
    "factorial": (_factorial, 1, 1),
    "floor": (math.floor, 1, 1),
    "gcd": (_gcd, 1, MAX_LENGTH),
    "max": (lambda *values: max(values), 1, MAX_LENGTH),
    "min": (lambda *values: min(values), 1, MAX_LENGTH),
    "round": (_round, 1, 2),
    "sum": (lambda *values: sum(values, Fraction(0)), 1, MAX_LENGTH),
    "trunc": (math.trunc, 1, 1),
}
FLOATING: Mapping[str, tuple[Callable[..., float], int, int]] = {
    "acos": (math.acos, 1, 1),
    "asin": (math.asin, 1, 1),
    "atan": (math.atan, 1, 1),
    "atan2": (math.atan2, 2, 2),
    "cos": (math.cos, 1, 1),
    "degrees": (math.degrees, 1, 1),
    "exp": (math.exp, 1, 1),
    "hypot": (math.hypot, 1, MAX_LENGTH),
    "log": (math.log, 1, 2),
    "log10": (math.log10, 1, 1),
    "log2": (math.log2, 1, 1),
    "radians": (math.radians, 1, 1),
    "sin": (math.sin, 1, 1),
    "sqrt": (math.sqrt, 1, 1),
    "tan": (math.tan, 1, 1),
}
FUNCTIONS = tuple(sorted([*EXACT, *FLOATING]))
