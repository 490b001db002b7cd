"""An assertion checks what should be so, and says what is not."""

import pytest

from pipelit.errors import AssertionFailed, Invalid
from pipelit.nodes.logic.assertion import Assertion
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Json
from tests.fakes import FakeContext, brought, run

ASSERTION = Assertion()
RULES: list[Json] = [
    {"field": "order.total", "operator": "gt", "value": 0},
    {"field": "order.items", "operator": "length_gte", "value": 1},
]


def test_all_rules_hold_and_the_way_on_is_pass() -> None:
    context = FakeContext({"order": {"total": 5, "items": [1]}}, brought("in"))

    outcome = run(ASSERTION, {"rules": RULES}, context)

    assert isinstance(outcome, Completed)
    assert outcome.route == "pass"
    assert outcome.outputs["passed"] is True
    assert outcome.outputs["output"] == "in"


def test_one_rule_fails_and_the_results_tell_which() -> None:
    outcome = run(ASSERTION, {"rules": RULES}, FakeContext({"order": {"total": 5, "items": []}}))

    assert isinstance(outcome, Completed)
    assert outcome.route == "fail"
    assert outcome.outputs["results"] == [
        {"field": "order.total", "operator": "gt", "value": 0, "passed": True, "found": "5"},
        {"field": "order.items", "operator": "length_gte", "value": 1, "passed": False, "found": "a list of 0"},
    ]


def test_an_assertion_that_fails_the_execution_names_the_rule_and_what_was_found() -> None:
    with pytest.raises(AssertionFailed) as failure:
        run(ASSERTION, {"rules": RULES, "fail_execution": True}, FakeContext({"order": {"total": "free"}}))

    assert failure.value.detail == (
        "order.total should be: gt 0; found the text 'free'; order.items should be: length gte 1; found nothing"
    )


def test_its_routes_do_not_depend_on_its_rules() -> None:
    assert ASSERTION.routes({}) == ("pass", "fail")
    assert ASSERTION.reads({"rules": RULES}) == ("order",)
    assert ASSERTION.reads({}) == ()


def test_an_assertion_of_nothing_is_refused() -> None:
    with pytest.raises(Invalid) as refusal:
        ASSERTION.check({"rules": []})

    assert list(refusal.value.errors) == ["config.rules"]
