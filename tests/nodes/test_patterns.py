"""Regular expressions in linear time: they agree with Python's, and nobody can make them slow."""

import re
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelit.nodes.pattern_syntax import PatternError
from pipelit.nodes.patterns import MAX_REMEMBERED, MAX_TEXT, compiled
from tests.support.examples import examples

ATOMS = [
    "a",
    "b",
    ".",
    "[ab]",
    "[^a]",
    "[a-c1]",
    r"\d",
    r"\w",
    r"\W",
    r"\s",
    r"\b",
    "^",
    "$",
    "(a|b)",
    "(?:ab|c)",
    "(a*)",
]
COUNTS = ["", "", "", "*", "+", "?", "{2}", "{1,3}", "{,2}", "*?"]
PATTERNS = st.lists(st.tuples(st.sampled_from(ATOMS), st.sampled_from(COUNTS)), min_size=1, max_size=5).map(
    lambda parts: "".join(atom + count for atom, count in parts)
)


@examples(400)
@given(st.lists(PATTERNS, min_size=1, max_size=2), st.text("abc1_ -\n", max_size=12))
def test_a_pattern_finds_what_pythons_engine_finds(options: list[str], text: str) -> None:
    pattern = "|".join(options)
    try:
        expected = re.compile(pattern.replace("$", r"\Z"))
    except re.error:
        assume(False)

    assert compiled(pattern).is_in(text) == bool(expected.search(text))


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)*c", "(.*a){20}b", "(a?){300}a{300}", "([ab]*a[ab]{50})*c"])
def test_no_text_from_outside_makes_a_pattern_slow(pattern: str) -> None:
    begun = time.thread_time()

    compiled(pattern).is_in("ab" * (MAX_TEXT // 2) + "!")

    assert time.thread_time() - begun < 5


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", r"'\)' is missing"),
        ("a)", "closes nothing"),
        ("[a", "ends too early"),
        ("\\", "ends too early"),
        ("*a", "nothing that"),
        ("a++", "follows another"),
        ("a{2,1}", "ends before it begins"),
        ("[b-a]", "ends before it begins"),
        ("(?=a)", "known only as"),
        (r"(a)\1", "references"),
        (r"\q", "not known"),
        (r"\xzz", "no character"),
        ("(" * 60 + ")" * 60, "nested too deeply"),
        ("(a{1000}){1000}", "too large"),
        ("((((){1000}){1000}){1000}){1000}", "too large"),
        ("a" * 501, "501 characters"),
    ],
)
def test_a_pattern_that_cannot_be_used_says_why(pattern: str, reason: str) -> None:
    with pytest.raises(PatternError, match=reason):
        compiled(pattern)


@pytest.mark.parametrize(
    ("pattern", "text", "is_in"),
    [
        ("(?i)straße[x-z]", "STRAßEY", True),
        ("(?i)[^a]", "A", False),
        (r"^[\w.+-]+@[\w-]+\.[\w.]+$", "ada@example.org", True),
        (r"^[\w.+-]+@[\w-]+\.[\w.]+$", "ada@example", False),
        (r"\x41é\t", "Aé\t", True),
        ("[]a]", "]", True),
        ("[a-]", "-", True),
        (r"[\d-]", "-", True),
        ("a{,b", "a{,b", True),
        (r"\Aab\Z", "ab", True),
        ("", "", True),
    ],
)
def test_the_usual_signs_mean_the_usual(pattern: str, text: str, is_in: bool) -> None:
    assert compiled(pattern).is_in(text) is is_in


def test_a_pattern_forgets_before_its_memory_grows() -> None:
    pattern = compiled("[ab]{100}c")

    for seed in range(40):
        assert not pattern.is_in("".join("ab"[(seed * index) % 7 % 2] for index in range(2_000)))

    assert pattern.remembered <= MAX_REMEMBERED


def test_only_the_beginning_of_a_long_text_is_searched() -> None:
    assert compiled("b").is_in("a" * (MAX_TEXT - 1) + "b")
    assert not compiled("b").is_in("a" * MAX_TEXT + "b")
