"""Executions: as a list shows them, and with everything that happened."""

from typing import Any

from marshmallow import ValidationError, validate

from pipelit.api.pagination import PageArguments
from pipelit.api.schemas import fields
from pipelit.api.schemas.base import AnswerSchema, Schema
from pipelit.services import sizes

STATUSES = ("pending", "running", "interrupted", "completed", "failed", "cancelled", "timed_out")
STEP_STATUSES = ("pending", "running", "waiting", "success", "failed", "skipped", "cancelled", "timed_out")
MOST_EVENTS = 1000
LONGEST_WAIT = 60
LONGEST_ID = 36
LARGEST_LOG = 2**53 - 1
REFERENCES = ' A value too large for a list stands as `{"$blob": …, "bytes": …}`; the log itself has it.'
MOST_BYTES = 8 * 1024 * 1024
AN_ID = validate.Length(1, LONGEST_ID)


def is_reasonable(value: Any) -> None:
    """Raises if a value is deeper than anybody can work with."""
    reason = sizes.objection(value, most_bytes=MOST_BYTES)
    if reason is not None:
        raise ValidationError(reason)


class ExecuteArguments(Schema):
    """What to start a workflow with. The trigger may be left out if there is only one, or one entry point."""

    trigger_node_id = fields.String(validate=validate.Length(1, 100))
    payload = fields.Dict(keys=fields.String(), validate=is_reasonable)
    text = fields.String(validate=validate.Length(max=1_000_000))


class WaitQuery(Schema):
    """How long to wait for the end."""

    wait = fields.QueryInteger(
        most=LONGEST_WAIT,
        load_default=0,
        metadata={"description": "Seconds. An execution that ends in time is answered as a whole, with 200."},
    )


class StartedSchema(AnswerSchema):
    """What was started: it will run, whatever happens to this server."""

    execution_id = fields.String()
    status = fields.String(validate=validate.OneOf(STATUSES))


class ExecutionQuery(PageArguments):
    """Which executions to list."""

    workflow_slug = fields.String(validate=validate.Length(1, 255))
    status = fields.String(validate=validate.OneOf(STATUSES))
    trigger = fields.String(validate=validate.Length(1, 30), metadata={"description": "manual, webhook, …"})
    since = fields.UtcTime(metadata={"description": "Made at this time or later."})
    until = fields.UtcTime(metadata={"description": "Made before this time."})
    search = fields.String(
        validate=validate.Length(1, 200), metadata={"description": "In id, error message and workflow name."}
    )


class ExecutionSchema(AnswerSchema):
    """An execution as a list shows it."""

    execution_id = fields.String()
    workflow_slug = fields.String(attribute="workflow.slug")
    trigger_node_id = fields.String()
    trigger = fields.String()
    status = fields.String(validate=validate.OneOf(STATUSES))
    error_message = fields.String(allow_none=True)
    error_code = fields.String(allow_none=True)
    error_node_id = fields.String(allow_none=True, metadata={"description": "The node whose failure ended it."})
    created_at = fields.UtcTime()
    started_at = fields.UtcTime(allow_none=True)
    completed_at = fields.UtcTime(allow_none=True)
    duration_ms = fields.Integer(allow_none=True)
    total_tokens = fields.Integer()
    total_cost_usd = fields.Float()
    llm_calls = fields.Integer()
    parent_execution_id = fields.String(allow_none=True)
    retried_from_id = fields.String(
        allow_none=True, metadata={"description": "The execution whose steps this one reuses, while it is kept."}
    )
    retried_from_step = fields.String(
        allow_none=True, metadata={"description": "The step that a retry began with; `node@loop:3` in an iteration."}
    )
    parent_node_id = fields.String(allow_none=True)


class LogSchema(AnswerSchema):
    """One attempt of one step, or a step that was skipped."""

    id = fields.Integer(most=LARGEST_LOG)
    node_id = fields.String()
    component_type = fields.String()
    scope = fields.String(metadata={"description": "The loop iterations around the step; empty outside of loops."})
    attempt = fields.Integer()
    status = fields.String(validate=validate.OneOf(STEP_STATUSES))
    route = fields.String(allow_none=True)
    input = fields.Raw(allow_none=True, metadata={"description": "The configuration, its expressions resolved."})
    output = fields.Raw(allow_none=True, metadata={"description": "The outputs by port." + REFERENCES})
    error = fields.String(allow_none=True)
    error_code = fields.String(allow_none=True)
    metadata = fields.Raw(allow_none=True)
    duration_ms = fields.Integer(allow_none=True)
    queued_ms = fields.Float(allow_none=True, metadata={"description": "From ready to claimed by a worker."})
    resolve_ms = fields.Float(allow_none=True, metadata={"description": "Taking the lease, resolving the templates."})
    run_ms = fields.Float(allow_none=True, metadata={"description": "The node itself."})
    waiting_ms = fields.Float(
        allow_none=True, metadata={"description": "For a time, a person, the outside, or its next attempt."}
    )
    commit_ms = fields.Float(allow_none=True, metadata={"description": "From the node's return to its commit."})
    timestamp = fields.UtcTime()

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        """What the view does not know is the row's own."""
        return super().get_attribute(obj if hasattr(obj, attr) else obj.log, attr, default)


class TimeSchema(AnswerSchema):
    """Milliseconds by kind, summed over the logs. Steps that run side by side add up to more than the wall clock."""

    queued_ms = fields.Float()
    resolve_ms = fields.Float()
    run_ms = fields.Float()
    waiting_ms = fields.Float()
    commit_ms = fields.Float()
    wall_ms = fields.Float(allow_none=True, metadata={"description": "From start to end; null until it is over."})


class ExecutionDetailSchema(ExecutionSchema):
    """An execution with everything that went in, happened and came out."""

    final_output = fields.Raw(allow_none=True)
    trigger_payload = fields.Raw(allow_none=True)
    workflow_version = fields.Integer(attribute="version.number", allow_none=True, dump_default=None)
    logs = fields.List(fields.Nested(LogSchema))
    children = fields.List(fields.Nested(ExecutionSchema))
    time = fields.Nested(TimeSchema)

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        """What the view does not know is the row's own."""
        return super().get_attribute(obj if hasattr(obj, attr) else obj.execution, attr, default)


class EventsQuery(Schema):
    """Which events to answer."""

    after = fields.QueryInteger(load_default=0, metadata={"description": "The number of the last event you have."})
    limit = fields.QueryInteger(least=1, most=MOST_EVENTS, load_default=MOST_EVENTS)


class EventSchema(AnswerSchema):
    """Something that happened, as the WebSocket told it."""

    seq = fields.Integer()
    type = fields.String()
    data = fields.Dict(keys=fields.String())
    timestamp = fields.String(metadata={"format": "date-time"})


class EventsSchema(AnswerSchema):
    """Events in order; there may be more after the last one."""

    items = fields.List(fields.Nested(EventSchema))


class ResumeArguments(Schema):
    """An answer to what an execution waits for. The node may be left out if only one waits."""

    node_id = fields.String(validate=validate.Length(1, 100))
    task_id = fields.String(validate=AN_ID, metadata={"description": "The question's id, in place of the node."})
    decision = fields.String(validate=validate.OneOf(["approve", "reject"]), load_default="approve")
    data = fields.Raw(
        allow_none=True,
        validate=is_reasonable,
        metadata={
            "description": "What a form asks for; the output of a step that waited for the outside; settings of a step "
            "that is held before it runs; outputs of one that is held after it ran."
        },
    )


class RetryArguments(Schema):
    """What to run again. Without a node: what has failed and was not reached, or all of what completed."""

    from_node_id = fields.String(
        validate=validate.Length(1, 100),
        metadata={"description": "This node and all that follows from it run again; the rest is reused."},
    )
    scope = fields.String(
        validate=validate.Length(1, 500),
        metadata={"description": "Only in this iteration of the loops around the node: `items:3`, `outer:0/inner:2`."},
    )
    inputs = fields.Dict(
        keys=fields.String(validate=validate.Length(1, 100)),
        values=fields.Dict(keys=fields.String()),
        validate=is_reasonable,
        metadata={"description": "By node and port, outputs of reused nodes that stand in the place of their own."},
    )
    workflow_version = fields.String(
        validate=validate.OneOf(["original", "current"]),
        metadata={"description": "The workflow as the execution ran it, or as it is now."},
    )


class ExecutionIdsSchema(Schema):
    """Executions by their ids."""

    execution_ids = fields.List(fields.String(validate=AN_ID), required=True, validate=validate.Length(1, 200))
