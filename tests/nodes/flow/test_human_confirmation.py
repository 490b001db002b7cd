"""A confirmation asks, and says what it asks for."""

from datetime import timedelta

import pytest

from pipelit.errors import ConfigError, Invalid
from pipelit.nodes.flow.human_confirmation import HumanConfirmation, filled_in
from pipelit.nodes.outcome import Approval, Suspended
from pipelit.nodes.ports import Json
from tests.fakes import NOON, FakeContext, run

ASK = HumanConfirmation()
SIZE = {"name": "size", "type": "select", "options": ["s", "m"]}


def test_it_asks_with_everything_filled_in() -> None:
    config: dict[str, Json] = {
        "prompt": "Refund {{ a.total }}?",
        "form": [SIZE, {"name": "why", "label": "Why, {{ a.name }}?", "required": True}],
        "approvers": ["{{ a.name }}", "grace"],
        "timeout_seconds": "{{ a.total }}",
        "on_timeout": "fail",
    }

    outcome = run(ASK, config, FakeContext({"a": {"total": 60, "name": "ada"}}))

    form = [
        {"name": "size", "label": "size", "type": "select", "required": False, "options": ["s", "m"]},
        {"name": "why", "label": "Why, ada?", "type": "text", "required": True, "options": []},
    ]
    assert outcome == Suspended(Approval("Refund 60?", form, ["ada", "grace"], NOON + timedelta(seconds=60), "fail"))


def test_it_may_wait_for_ever() -> None:
    assert run(ASK, {"prompt": "Go?"}) == Suspended(Approval("Go?", [], []))
    assert ASK.routes({}) == ("approved", "rejected")


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({}, "config.prompt"),
        ({"prompt": ""}, "config.prompt"),
        ({"prompt": "?", "timeout_seconds": 0}, "config.timeout_seconds"),
        ({"prompt": "?", "timeout_seconds": 315_360_000}, "config.timeout_seconds"),
        ({"prompt": "?", "on_timeout": "shrug"}, "config.on_timeout"),
        ({"prompt": "?", "form": [{"name": "a b"}]}, "config.form.0.name"),
        ({"prompt": "?", "form": [{"name": "a", "type": "colour"}]}, "config.form.0.type"),
        ({"prompt": "?", "form": [{"name": "a"}, {"name": "a"}]}, "config.form"),
        ({"prompt": "?", "form": [{"name": "a", "type": "select"}]}, "config.form"),
        ({"prompt": "?", "approvers": "ada"}, "config.approvers"),
    ],
)
def test_what_cannot_be_asked_is_refused(config: dict[str, Json], path: str) -> None:
    with pytest.raises(Invalid) as refusal:
        ASK.check(config)

    assert list(refusal.value.errors) == [path]


def test_a_question_that_nobody_would_read_fails_with_its_name() -> None:
    with pytest.raises(ConfigError, match=r"^prompt: has 20000 characters"):
        run(ASK, {"prompt": "{{ 'x' * 20000 }}"})


def test_fields_that_are_left_out_are_null() -> None:
    assert filled_in([SIZE | {"required": False}], None, is_approved=True) == {"size": None}


@pytest.mark.parametrize("label", [" ", "\n", "\t \u00a0", " \n"])
def test_a_label_of_nothing_but_white_space_is_refused(label: str) -> None:
    with pytest.raises(Invalid) as refused:
        ASK.check({"prompt": "?", "form": [{"name": "why", "label": label}]})

    assert list(refused.value.errors) == ["config.form.0.label"]


@pytest.mark.parametrize("label", ["", "Why?", " two\nlines ", "{{ trigger.label }}"])
def test_a_label_is_text_or_left_out(label: str) -> None:
    assert ASK.check({"prompt": "?", "form": [{"name": "why", "label": label}]})
