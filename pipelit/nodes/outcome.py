"""What running a node comes to: exactly one of these, never a dictionary with magic keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pipelit.nodes.ports import Json


@dataclass(frozen=True, slots=True)
class Completed:
    """The node is done. `outputs` are by port; `route` is the way a routing node chose."""

    outputs: Mapping[str, Json] = field(default_factory=dict)
    route: str | None = None


@dataclass(frozen=True, slots=True)
class Iterating:
    """A loop has its items; the engine sends each through the body and collects the results."""

    items: Sequence[Json]


@dataclass(frozen=True, slots=True)
class Timer:
    """Resume at this time (with zone)."""

    at: datetime


@dataclass(frozen=True, slots=True)
class External:
    """Resume when somebody calls the execution's resume route, or at `deadline` without them."""

    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    """Resume when a person has decided; at `deadline` `on_timeout` does: approve, reject or fail.

    `form` holds the fields that the person fills in, `approvers` the names of users who may answer beside those who may
    run the workflow.
    """

    prompt: str
    form: Sequence[Json] = ()
    approvers: Sequence[str] = ()
    deadline: datetime | None = None
    on_timeout: str = "reject"


@dataclass(frozen=True, slots=True)
class Child:
    """Resume with the end of another workflow's execution or, if that is not awaited, as soon as it is accepted.

    `workflow` is a slug or an id.
    """

    workflow: str | int
    payload: Mapping[str, Json] = field(default_factory=dict)
    text: str = ""
    is_awaited: bool = True


@dataclass(frozen=True, slots=True)
class Suspended:
    """The node waits without holding a worker; `outputs` are its own once it is resumed by a timer."""

    until: Timer | External | Approval | Child
    outputs: Mapping[str, Json] = field(default_factory=dict)


Outcome = Completed | Iterating | Suspended
