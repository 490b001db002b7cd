"""The calculator computes exactly, within bounds, and runs nothing."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelit.errors import ConfigError, Invalid
from pipelit.nodes.arithmetic import ArithmeticProblem, evaluate
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Json
from pipelit.nodes.tools.calculator import Calculator
from tests.fakes import FakeContext, run

CALCULATOR = Calculator()
NUMBERS = st.decimals(-1000, 1000, places=3).map(lambda number: (f"({number})", Fraction(number)))
SIGNS = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
    "//": lambda left, right: left // right,
    "%": lambda left, right: left % right,
}


def combined(
    parts: tuple[tuple[str, Fraction | None], str, tuple[str, Fraction | None]],
) -> tuple[str, Fraction | None]:
    """An expression of two expressions, and what it comes to; None where it divides by zero."""
    (left_text, left), sign, (right_text, right) = parts
    text = f"({left_text} {sign} {right_text})"
    if left is None or right is None or (right == 0 and sign in "//%"):
        return text, None
    return text, Fraction(SIGNS[sign](left, right))


EXPRESSIONS = st.recursive(
    NUMBERS, lambda inner: st.tuples(inner, st.sampled_from(sorted(SIGNS)), inner).map(combined), max_leaves=8
)


@given(EXPRESSIONS)
def test_arithmetic_agrees_with_fractions(expression: tuple[str, Fraction | None]) -> None:
    text, value = expression
    if value is None:
        with pytest.raises(ArithmeticProblem, match="divides by zero"):
            evaluate(text)
    else:
        assert evaluate(text) == float(value)


@given(st.text(alphabet="0123456789.+-*/%() eπx_^&|<>=,'\"[]{}:lambdforin", max_size=40))
def test_any_text_is_a_number_or_a_problem(text: str) -> None:
    try:
        value = evaluate(text)
    except ArithmeticProblem:
        return
    assert isinstance(value, int | float)


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("0.1 + 0.2", 0.3),
        ("4 / 2", 2),
        ("2 ** 0.5", 2**0.5),
        ("2 ** -2", 0.25),
        ("2 * pi - tau", 0),
        ("3 ** -400 * 3 ** -400 * 3 ** -400 * 3 ** -400 * 3 ** -400 * 3 ** -400 * 3 ** -400", 0),
        ("-3 ** 2", -9),
        ("round(2.675, 2)", 2.68),
        ("max(1, 2.5, -3) + min(4, 2)", 4.5),
        ("sqrt(16) + abs(-2)", 6),
        ("gcd(12, 18)", 6),
        ("factorial(5)", 120),
        ("floor(-1.5) + ceil(1.2)", 0),
        ("cos(0) + log(8, 2) + log10(1000)", 7),
        ("1.0041666666 ** 360", 1.0041666666**360),
        ("sum(1, 2, 3) % 4", 2),
        (" 7 // 2 ", 3),
    ],
)
def test_expressions_by_example(expression: str, result: float) -> None:
    assert run(CALCULATOR, {"expression": expression}) == Completed({"result": pytest.approx(result)})


def test_whole_results_are_integers() -> None:
    assert isinstance(evaluate("1.5 * 2"), int)


def test_values_come_in_by_expressions() -> None:
    context = FakeContext({"trigger": {"payload": {"total": 100}}, "a": {"output": "2"}})

    outcome = run(CALCULATOR, {"expression": "{{ trigger.payload.total }} * 1.19 + {{ a.output }}"}, context)

    assert outcome == Completed({"result": 121})
    assert run(CALCULATOR, {"expression": "{{ trigger.payload.total }}"}, context) == Completed({"result": 100})


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("1 / 0", "divides by zero"),
        ("0 ** -1", "divides by zero"),
        ("5 % 0", "divides by zero"),
        ("5 << 2", "only [+] - "),
        ("factorial(-1)", "no value there"),
        ("2 ^ 3", "a power is written"),
        ("9**9**9**9", "too large"),
        ("10**300", "too large"),
        ("1e999", "too large"),
        ("factorial(1000)", "at most 150"),
        ("(-8) ** 0.5", "no real value"),
        ("sqrt(-1)", "no value there"),
        ("exp(1000)", "too large"),
        ("round(1, 99)", "at most 30"),
        ("'a' * 9", "only numbers"),
        ("True + 1", "not a number"),
        ("1j", "not a number"),
        ("x + 1", "'x' is not known"),
        ("open('/etc/passwd')", "only numbers|not known"),
        ("__import__('os').system('true')", "only numbers"),
        ("().__class__", "only numbers"),
        ("[1][0]", "only numbers"),
        ("max()", "takes 1 or more numbers, not 0"),
        ("sqrt(1, 2)", "takes 1 number, not 2"),
        ("round(1, 2, 3)", "takes 1 to 2 numbers"),
        ("max(1, key=2)", "only numbers"),
        ("eval(1)", "the function 'eval' is not known"),
        ("1 +", "is not an arithmetic expression"),
        ("", "is not an arithmetic expression"),
        ("1\x00", "is not an arithmetic expression"),
        ("-" * 900 + "1", "nested too deeply"),
        ("(" * 400 + "1" + ")" * 400, "is not an arithmetic expression"),
        ("1+" * 600 + "1", "1201 characters"),
    ],
)
def test_what_is_no_arithmetic_says_why(expression: str, reason: str) -> None:
    with pytest.raises(ArithmeticProblem, match=reason):
        evaluate(expression)


@pytest.mark.parametrize("value", [True, [1], {"a": 1}, None])
def test_a_value_that_is_no_arithmetic_is_described(value: Json) -> None:
    with pytest.raises(ConfigError, match=r"^expression: "):
        run(CALCULATOR, {"expression": "{{ a.output }}"}, FakeContext({"a": {"output": value}}))


def test_the_failing_step_names_the_setting() -> None:
    with pytest.raises(ConfigError, match=r"^expression: it divides by zero.$"):
        run(CALCULATOR, {"expression": "1/0"})
    with pytest.raises(Invalid):
        CALCULATOR.check({"expression": ""})
