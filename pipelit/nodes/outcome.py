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
class Suspended:
    """The node waits without holding a worker; `outputs` are its own once it is resumed by a timer."""

    until: Timer | External
    outputs: Mapping[str, Json] = field(default_factory=dict)


Outcome = Completed | Iterating | Suspended
