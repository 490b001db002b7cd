"""Collaborators that a test hands in instead of the real ones."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipelit.engine import expressions
from pipelit.integrations.http import HttpClient, HttpRequest, HttpResponse
from pipelit.nodes.base import Input, NodeType, StepNode
from pipelit.nodes.outcome import Outcome
from pipelit.nodes.ports import Json

NOON = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class FakeContext:
    """`StepContext` with whatever the story needs to be said; the rest is plain."""

    values: Mapping[str, Json] = field(default_factory=dict)
    inputs: Sequence[Input] = ()
    at: datetime = NOON
    cancelled: Callable[[], bool] = lambda: False
    http: HttpClient = field(default_factory=lambda: HttpClient(()))
    execution_id: str = "0d4c3c1e-0000-4000-8000-000000000001"
    node_id: str = "node"
    attempt: int = 1

    @property
    def idempotency_key(self) -> str:
        return f"{self.execution_id}/{self.node_id}/"

    def now(self) -> datetime:
        return self.at

    def is_cancelled(self) -> bool:
        return self.cancelled()


def brought(*values: Json, by: Sequence[str] = ()) -> tuple[Input, ...]:
    """What edges brought: from nodes called a, b, c, unless the story names them."""
    names = by or "abcdefgh"
    return tuple(Input(name, value) for name, value in zip(names, values, strict=False))


def run(node_type: NodeType[Any], config: Mapping[str, Json], context: FakeContext | None = None) -> Outcome:
    """Run a step as the worker does: check the config, resolve its templates, load it, run."""
    assert isinstance(node_type, StepNode)
    context = context or FakeContext()
    node_type.check(config)
    resolved = expressions.resolve(dict(config), context.values, field="config")
    assert isinstance(resolved, dict)
    return node_type.run(node_type.configure(resolved), context)


class FakeHttp(HttpClient):
    """The way out that leads nowhere: answers every request with the same JSON, and remembers what was asked."""

    def __init__(self, body: Json = None) -> None:
        super().__init__()
        self.body = body
        self.requests: list[HttpRequest] = []

    def send(self, request: HttpRequest, is_cancelled: Callable[[], bool] = lambda: False) -> HttpResponse:
        self.requests.append(request)
        return HttpResponse(200, {"content-type": "application/json"}, json.dumps(self.body).encode(), request.url)
