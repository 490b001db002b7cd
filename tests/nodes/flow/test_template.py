"""A template writes text, or hands a value on as it is."""

import pytest

from pipelit.errors import Invalid
from pipelit.nodes.flow.template import Template
from pipelit.nodes.outcome import Completed
from pipelit.nodes.ports import Json
from tests.fakes import FakeContext, run

TEMPLATE = Template()
CONTEXT = FakeContext({"trigger": {"text": "Ada"}, "a": {"output": [1, {"b": 2}]}})


@pytest.mark.parametrize(
    ("template", "output"),
    [
        ("Hello {{ trigger.text }}!", "Hello Ada!"),
        ("{{ a.output }}", [1, {"b": 2}]),
        ("{% if a.output %}yes{% endif %}", "yes"),
        ("no template", "no template"),
        ("", ""),
    ],
)
def test_text_with_values_and_single_values_as_they_are(template: str, output: Json) -> None:
    assert run(TEMPLATE, {"template": template}, CONTEXT) == Completed({"output": output})


@pytest.mark.parametrize("config", [{}, {"template": 5}, {"template": None}, {"template": ["a"]}])
def test_a_template_is_text(config: dict[str, Json]) -> None:
    with pytest.raises(Invalid) as refusal:
        TEMPLATE.check(config)

    assert list(refusal.value.errors) == ["config.template"]
