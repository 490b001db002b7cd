"""Set fields makes an object."""

import pytest

from pipelit.errors import ConfigError, Invalid
from pipelit.nodes.flow.set_fields import SetFields
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Json
from tests.fakes import FakeContext, brought, run

SET_FIELDS = SetFields()


def test_values_keep_their_types() -> None:
    context = FakeContext({"trigger": {"text": "Ada", "payload": {"total": 4.5, "tags": ["a"]}}})
    fields: Json = {
        "greeting": "Hello {{ trigger.text }}",
        "total": "{{ trigger.payload.total }}",
        "tags": "{{ trigger.payload.tags }}",
        "nested": {"fixed": [1, "{{ trigger.text }}"]},
        "nothing": None,
    }

    outcome = run(SET_FIELDS, {"fields": fields}, context)

    assert outcome == Completed(
        {
            "output": {
                "greeting": "Hello Ada",
                "total": 4.5,
                "tags": ["a"],
                "nested": {"fixed": [1, "Ada"]},
                "nothing": None,
            }
        }
    )


def test_the_input_is_kept_when_the_author_says_so() -> None:
    context = FakeContext(inputs=brought({"a": 1, "b": 2}))

    assert run(SET_FIELDS, {"fields": {"b": 3}, "keep_input": True}, context) == Completed({"output": {"a": 1, "b": 3}})
    assert run(SET_FIELDS, {"fields": {"b": 3}}, context) == Completed({"output": {"b": 3}})
    assert run(SET_FIELDS, {"fields": {"b": 3}, "keep_input": True}) == Completed({"output": {"b": 3}})


def test_only_an_object_can_be_added_to() -> None:
    with pytest.raises(ConfigError, match=r"^keep_input: .* the input is a list of 1"):
        run(SET_FIELDS, {"fields": {}, "keep_input": True}, FakeContext(inputs=brought([1])))


@pytest.mark.parametrize("config", [{}, {"fields": []}, {"fields": "a"}])
def test_the_fields_are_an_object(config: dict[str, Json]) -> None:
    with pytest.raises(Invalid) as refusal:
        SET_FIELDS.check(config)

    assert list(refusal.value.errors) == ["config.fields"]
