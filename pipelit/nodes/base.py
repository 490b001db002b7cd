"""The three contracts of a node type: it starts executions, it runs as a step, or it provides for an AI node.

A node type is one class in one file. What the class states is all there is to declare: the registry, the ORM identity,
the schemas, the palette, the form, the reference page and the conformance test follow from it.
"""

import builtins
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from marshmallow import Schema, ValidationError, fields, validate

from pipelit.errors import ConfigError, Invalid
from pipelit.integrations.http import HttpClient
from pipelit.nodes.outcome import Outcome
from pipelit.nodes.ports import Category, DataType, EdgeLabel, Json, Port
from pipelit.nodes.settings import config, messages_by_path, nested, schema_class, secret_names, setting
from pipelit.nodes.values import described


@config
class NodeConfig:
    """What every node can be told: nothing."""


@config
class Retry:
    """When and how often a failed step is tried again. Only errors that may pass are retried."""

    attempts: int = setting(
        fields.Integer(validate=validate.Range(1, 20)),
        title="Attempts",
        help="Tries in all, the first included.",
        default=1,
        is_literal=True,
    )
    initial: float = setting(
        fields.Float(validate=validate.Range(0, 3600)),
        title="First delay",
        help="Seconds before the second try.",
        default=1.0,
        is_literal=True,
    )
    factor: float = setting(
        fields.Float(validate=validate.Range(1, 10)),
        title="Factor",
        help="Each further delay is longer by this.",
        default=2.0,
        is_literal=True,
    )
    ceiling: float = setting(
        fields.Float(validate=validate.Range(0, 86_400)),
        title="Longest delay",
        help="Seconds.",
        default=60.0,
        is_literal=True,
    )
    jitter: float = setting(
        fields.Float(validate=validate.Range(0, 1)),
        title="Jitter",
        help="Fraction by which a delay varies.",
        default=0.1,
        is_literal=True,
    )


@config
class Failure:
    """What happens when the node fails."""

    retry: Retry = setting(nested(Retry, name="RetryPolicy"), title="Retry", default=Retry())
    on_error: str = setting(
        fields.String(validate=validate.OneOf(["stop", "continue", "default"])),
        title="On error",
        help="Stop the execution, go on along the error port, or go on with a default output.",
        default="stop",
        is_literal=True,
    )
    default: Json = setting(
        fields.Raw(allow_none=True),
        title="Default output",
        help="Stands in for the outputs when the node fails: an object of ports by name, or else the port `output`.",
        default=None,
        is_literal=True,
        visible_when={"on_error": "default"},
    )
    timeout: float | None = setting(
        fields.Float(validate=validate.Range(0.1, 86_400)),
        title="Timeout",
        help="Seconds one attempt may take; empty means the installation's limit.",
        default=None,
        is_literal=True,
    )
    safe_to_retry: bool | None = setting(
        fields.Boolean(),
        title="Safe to repeat",
        help="Whether the step may run again after its worker died in the middle; empty leaves it to the node type.",
        default=None,
        is_literal=True,
    )


@config
class StepConfig(NodeConfig):
    """What every step can be told."""

    failure: Failure = setting(
        nested(Failure, name="FailurePolicy"), title="On failure", default=Failure(), is_advanced=True
    )


C = TypeVar("C", bound=NodeConfig)


@dataclass(frozen=True, slots=True)
class TriggerEvent:
    """Something outside that may start workflows: `kind` selects the trigger types, `payload` is what it carried."""

    kind: str
    payload: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Input:
    """What one taken edge brought: the value of `port` of the node `node_id`."""

    node_id: str
    value: Json
    port: str | None = None
    target_port: str | None = None


class StepContext(Protocol):
    """What a step may know and use while it runs."""

    @property
    def execution_id(self) -> str: ...

    @property
    def node_id(self) -> str: ...

    @property
    def attempt(self) -> int: ...

    @property
    def idempotency_key(self) -> str:
        """`{execution_id}/{node_id}/{scope}`: the same in every attempt of the step."""

    @property
    def inputs(self) -> Sequence[Input]:
        """What the taken edges brought, in the order of the edges."""

    @property
    def values(self) -> Mapping[str, Json]:
        """What expressions see: `trigger`, `loop` inside one, and the outputs of the nodes that the config reads."""

    @property
    def http(self) -> HttpClient:
        """The one client for outgoing calls; it refuses private addresses."""

    def now(self) -> datetime: ...

    def is_cancelled(self) -> bool:
        """Whether the execution was stopped meanwhile; long work asks now and then, and returns early."""


class NodeType(ABC, Generic[C]):
    """What all node types state. `type` is stable for ever; `version` and `upgrade` carry changes of the config.

    `main_port` is the output whose value an edge carries when it names no port.
    """

    type: ClassVar[str]
    title: ClassVar[str]
    category: ClassVar[Category]
    icon: ClassVar[str]
    inputs: ClassVar[Sequence[Port]] = ()
    outputs: ClassVar[Sequence[Port]] = ()
    sub_inputs: ClassVar[Sequence[EdgeLabel]] = ()
    main_port: ClassVar[str] = "output"
    example: ClassVar[Mapping[str, Json]] = {}
    version: ClassVar[int] = 1
    Config: Any = NodeConfig

    @property
    def schema(self) -> "builtins.type[Schema]":
        """The schema of a stored config, one class per node type."""
        return schema_class(self.Config, schema_name(self.type), is_stored=True)

    def value(self, outputs: Mapping[str, Json]) -> Json:
        """What an edge that names no port carries: the main port's value, or the only one, or an object of all."""
        if self.main_port in outputs:
            return outputs[self.main_port]
        if len(outputs) == 1:
            return next(iter(outputs.values()))
        return dict(outputs)

    def routes(self, values: Mapping[str, Json]) -> Sequence[str]:
        """The routes that conditional edges from this node may name, given its stored config; () for no routing."""
        return ()

    def upgrade(self, values: dict[str, Json], from_version: int) -> dict[str, Json]:
        """A config stored by an older version of the type, as this version stores it."""
        return values

    def check(self, values: Mapping[str, Json]) -> dict[str, Json]:
        """The config as it may be stored. Raises `Invalid` with the path of every field that is wrong."""
        try:
            _stored_schema(self.schema).load(values)
        except ValidationError as error:
            raise Invalid(
                f"The configuration of {self.title} is not valid.", messages_by_path(error, "config")
            ) from error
        return dict(values)

    def configure(self, values: Mapping[str, Json]) -> C:
        """The typed config of resolved values. Raises `ConfigError` naming the first field that does not fit."""
        try:
            loaded: C = _resolved_schema(self.Config, schema_name(self.type)).load(values)
        except ValidationError as error:
            path, messages = next(iter(messages_by_path(error).items()))
            raise ConfigError(f"{path}: {messages[0]}") from error
        return loaded

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of the settings that are secret."""
        return secret_names(self.Config)


class TriggerNode(NodeType[C]):
    """Starts executions when an outside event of its `kind` matches; never runs as a step itself."""

    category: ClassVar[Category] = Category.TRIGGER
    kind: ClassVar[str]

    def matches(self, config: C, event: TriggerEvent) -> bool:
        """Whether the event is meant for a trigger with this config."""
        return True

    def key(self, values: Mapping[str, Json]) -> str | None:
        """What events find the trigger by (the path of a webhook), unique in the installation; None for nothing."""
        return None

    @abstractmethod
    def emit(self, config: C, event: TriggerEvent) -> dict[str, Json]:
        """The trigger's outputs by port, for an event that matched."""


class StepNode(NodeType[C]):
    """Runs as a step. `lane` is its Celery queue; `is_pure` says that it does no IO and never waits."""

    Config: Any = StepConfig
    lane: ClassVar[str] = "default"
    is_pure: ClassVar[bool] = False
    is_tool: ClassVar[bool] = False

    @abstractmethod
    def run(self, config: C, context: StepContext) -> Outcome:
        """Do the work. Raise a `StepError` for a failure that has a name; anything else is reported as a bug."""

    def check(self, values: Mapping[str, Json]) -> dict[str, Json]:
        """The same; a default value has to name outputs that the type has."""
        checked = super().check(values)
        failure = checked.get("failure")
        if isinstance(failure, dict) and failure.get("on_error") == "default":
            default = failure.get("default")
            if self.stand_in(default) is None:
                message = f"Give an object of outputs by port, not {described(default)}: {self._named_ports()}"
                raise Invalid(f"failure.default: {message}", {"config.failure.default": [message]})
        return checked

    def stand_in(self, default: Json) -> dict[str, Json] | None:
        """The outputs by port that a default value stands for; None if it is none that this type has.

        An object whose names are all ports is one value for each; anything else is the port `output`.
        """
        ports = {port.name for port in self.outputs}
        if isinstance(default, dict) and default and default.keys() <= ports:
            return dict(default)
        return {"output": default} if "output" in ports else None

    def _named_ports(self) -> str:
        named = ", ".join(port.name for port in self.outputs)
        return f"{self.title} has the ports {named}." if named else f"{self.title} has no outputs, so choose continue."

    def reads(self, values: Mapping[str, Json]) -> Iterable[str]:
        """First segments of the paths that the config names outside of expressions (`hook` of `hook.body`)."""
        return ()

    def waits_for_all(self, values: Mapping[str, Json]) -> bool:
        """Whether all incoming edges must be decided before the step runs, or the first taken one will do."""
        return True

    def resume_methods(self, values: Mapping[str, Json]) -> Sequence[str]:
        """The HTTP methods by which a stranger may resume a waiting step at its own address; () for none."""
        return ()

    def is_safe_to_repeat(self, values: Mapping[str, Json]) -> bool:
        """Whether the step may run again when its worker died in the middle of it."""
        return True


class LoopingNode(StepNode[C]):
    """A step whose outcome is `Iterating`: the nodes on its `loop_body` edges run once for each item."""

    @abstractmethod
    def concurrency(self, values: Mapping[str, Json]) -> int:
        """How many iterations may run at once."""

    @abstractmethod
    def on_item_error(self, values: Mapping[str, Json]) -> str:
        """`stop`, `continue` or `collect`: what a failed iteration does to the loop."""


class ProviderNode(NodeType[C]):
    """Gives an AI node its model, tool, memory or parser along an edge labelled `provides`; never scheduled."""

    provides: ClassVar[EdgeLabel]


def schema_name(node_type: str) -> str:
    """The name of a node type's config schema: `trigger_webhook` → `TriggerWebhookConfig`."""
    return "".join(part.capitalize() for part in node_type.split("_")) + "Config"


@cache
def _stored_schema(schema: type[Schema]) -> Schema:
    return schema()


@cache
def _resolved_schema(config_class: type, name: str) -> Schema:
    return schema_class(config_class, name, is_stored=False)()


ERROR_PORT = Port("error", DataType.OBJECT, "Why the node failed, when it is set to go on along this port.")
