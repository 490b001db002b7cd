"""Requests from outside that start workflows: whose they are, whether to believe them, and what to keep of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog

from pipelit.engine.core.graph import Json
from pipelit.errors import InvalidGraph, NotFound, StepError, Unavailable
from pipelit.models import WorkflowExecution
from pipelit.nodes.base import TriggerEvent
from pipelit.nodes.triggers import trigger_webhook
from pipelit.nodes.triggers.trigger_webhook import PRIVATE_HEADERS
from pipelit.services import triggers
from pipelit.services.triggers import Match

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request as it came; names of headers may be written in any way."""

    path: str
    method: str
    headers: Mapping[str, str]
    query: Mapping[str, Json]


def find(path: str) -> Match:
    """The webhook at a path."""
    found = triggers.matching("webhook", path)
    if not found:
        raise NotFound("No active workflow has a webhook at this address.")
    return found[0]


def verify(match: Match, delivery: Delivery, body: bytes, at: datetime) -> None:
    """Raises `Unauthorized` unless the request proves what the webhook asks for."""
    trigger_webhook.verify(match.config, delivery.headers, body, at)


def receive(
    match: Match, delivery: Delivery, body: Json, *, execution_id: str | None = None, reply_to: str | None = None
) -> WorkflowExecution:
    """Run the workflow. The caller is a stranger: if it cannot run, why is for the log only."""
    payload: dict[str, Json] = {
        "path": delivery.path,
        "method": delivery.method,
        "headers": _public(match, delivery.headers),
        "query": dict(delivery.query),
        "body": body,
    }
    try:
        event = TriggerEvent("webhook", payload)
        return triggers.start(match, event, execution_id=execution_id, reply_to=reply_to)
    except (InvalidGraph, StepError) as error:
        log.warning("webhook_cannot_run", workflow=match.workflow.slug, node_id=match.node_id, error=error.detail)
        raise Unavailable("The workflow at this address cannot run at present.") from error


def _public(match: Match, headers: Mapping[str, str]) -> dict[str, Json]:
    """The headers that may be kept: whatever proves the sender's right is left out."""
    config = match.config
    hidden = PRIVATE_HEADERS | {config.secret_header.lower(), config.signature_header.lower()}
    return {name.lower(): value for name, value in headers.items() if name.lower() not in hidden}
