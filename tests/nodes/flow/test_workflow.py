"""Calling a workflow is asking for it, and waiting."""

import pytest

from pipelit.errors import ConfigError, Invalid
from pipelit.nodes.flow.workflow import CallWorkflow
from pipelit.nodes.outcome import Child, Suspended
from pipelit.nodes.ports import Json
from tests.fakes import FakeContext, brought, run

CALL = CallWorkflow()


def test_it_asks_for_a_workflow_by_slug_or_by_id() -> None:
    config: dict[str, Json] = {"workflow_slug": "{{ a.slug }}", "payload": {"n": "{{ a.n }}"}, "text": "hi"}

    assert run(CALL, config, FakeContext({"a": {"slug": "invoice", "n": 7}})) == Suspended(
        Child("invoice", {"n": 7}, "hi")
    )
    assert run(CALL, {"subworkflow_id": 5, "wait": False}) == Suspended(Child(5, is_awaited=False))


@pytest.mark.parametrize(
    ("value", "payload"),
    [({"a": 1}, {"a": 1}), (5, {"input": 5}), ([1], {"input": [1]}), (None, {})],
)
def test_without_a_payload_what_came_in_is_handed_over(value: Json, payload: dict[str, Json]) -> None:
    outcome = run(CALL, {"workflow_slug": "invoice"}, FakeContext(inputs=brought(value)))

    assert outcome == Suspended(Child("invoice", payload))


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"workflow_slug": "a", "subworkflow_id": 1}, "config.subworkflow_id"),
        ({"workflow_slug": "a", "payload": [1]}, "config.payload"),
        ({"workflow_slug": "a", "payload": "text"}, "config.payload"),
        ({"subworkflow_id": 0}, "config.subworkflow_id"),
        ({"workflow_slug": ""}, "config.workflow_slug"),
    ],
)
def test_what_cannot_be_called_is_refused(config: dict[str, Json], path: str) -> None:
    with pytest.raises(Invalid) as refusal:
        CALL.check(config)

    assert list(refusal.value.errors) == [path]


def test_what_shows_only_when_it_runs_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^workflow_slug: "):
        run(CALL, {})
    with pytest.raises(ConfigError, match=r"^payload: Give an object, not 5"):
        run(CALL, {"workflow_slug": "a", "payload": "{{ a.n }}"}, FakeContext({"a": {"n": 5}}))
