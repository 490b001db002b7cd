"""Calling another workflow."""

from collections.abc import Iterator, Mapping
from typing import Any

from marshmallow import fields, validate

from pipelit.errors import ConfigError
from pipelit.nodes.base import StepConfig, StepContext, StepNode
from pipelit.nodes.inputs import passed_on
from pipelit.nodes.outcome import Child, Suspended
from pipelit.nodes.ports import Category, DataType, Json, Port
from pipelit.nodes.settings import config, is_template, setting
from pipelit.nodes.values import described


@config
class WorkflowCallConfig(StepConfig):
    """Which workflow, what it gets, and whether its end is waited for."""

    workflow_slug: str | None = setting(
        fields.String(validate=validate.Length(1, 200)),
        title="Workflow",
        help="The slug of the workflow to run. It needs the trigger 'Called by a workflow'.",
        default=None,
        widget="workflow",
    )
    subworkflow_id: int | None = setting(
        fields.Integer(validate=validate.Range(1, 2**31 - 1)),
        title="Workflow by id",
        help="In place of the slug; stays true when the workflow gets another slug.",
        default=None,
        is_literal=True,
        is_advanced=True,
    )
    payload: Json = setting(
        fields.Raw(allow_none=True),
        title="Payload",
        help="An object for the workflow; left out, it is what came in.",
        default=None,
        widget="json",
    )
    text: str | None = setting(fields.String(), title="Text", help="A text for the workflow.", default=None)
    wait: bool = setting(
        fields.Boolean(),
        title="Wait for its end",
        help="Otherwise the step is done as soon as the execution is accepted.",
        default=True,
        is_literal=True,
    )

    @staticmethod
    def problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """A workflow is named in one way, and what it gets is an object."""
        if values.get("workflow_slug") is not None and values.get("subworkflow_id") is not None:
            yield "subworkflow_id", "Name the workflow by its slug or by its id, not both."
        payload = values.get("payload")
        if payload is not None and not isinstance(payload, dict) and not is_template(payload):
            yield "payload", f"Give an object, not {described(payload)}."


class CallWorkflow(StepNode[WorkflowCallConfig]):
    """Runs another workflow, and goes on with what comes out of it.

    The other workflow starts at its trigger "Called by a workflow", as an execution of its own, exactly once. The
    owner of this workflow must be allowed to run it. While it runs no worker waits here. If it fails or is cancelled,
    this step fails with `child_failed`; when this execution ends early, the other one is cancelled. Without waiting,
    the step is done as soon as the execution is accepted, and neither knows of the other's end.
    """

    type = "workflow"
    title = "Workflow"
    category = Category.FLOW
    icon = "workflow"
    inputs = (Port("payload", DataType.ANY, "What the workflow gets, when no payload is set."),)
    outputs = (
        Port("output", DataType.ANY, "What came out of the workflow; null if its end is not waited for."),
        Port("execution_id", DataType.STRING, "The execution that was started."),
    )
    example = {"workflow_slug": "invoice", "payload": {"total": "{{ trigger.payload.total }}"}, "wait": True}
    Config = WorkflowCallConfig

    def run(self, config: WorkflowCallConfig, context: StepContext) -> Suspended:
        wanted = config.workflow_slug or config.subworkflow_id
        if wanted is None:
            raise ConfigError("workflow_slug: Say which workflow to run.")
        payload = config.payload if isinstance(config.payload, dict) else _object_of(passed_on(context.inputs))
        return Suspended(Child(wanted, payload, config.text or "", config.wait))


def _object_of(value: Json) -> dict[str, Json]:
    """What came in as an object: itself if it is one, else under the name `input`."""
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"input": value}
