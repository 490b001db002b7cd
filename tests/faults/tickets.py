"""What the suite asks of the product: triggers that it fires, and what it does with the executions of some of them."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ticket:
    """One trigger that the suite fired; `is_accepted` once the product has said so."""

    number: str
    workflow: str
    choice: str
    is_accepted: bool
    execution_id: str | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be done with an execution: cancelled some seconds after its beginning, and retried once it has ended.

    `node` is the one that the retry begins with; None leaves it to the product.
    """

    cancelled_after: float | None = None
    is_retried: bool = False
    node: str | None = None


@dataclass(frozen=True, slots=True)
class Retrial:
    """A retry: its own ticket, the nodes that run again whatever has become of them, and what had succeeded by then.

    That was looked up before and after the retry was accepted; both are names of effects, as the oracle has them.
    """

    ticket: Ticket
    again: Collection[str]
    before: Collection[str]
    after: Collection[str]


@dataclass(frozen=True, slots=True)
class Fate:
    """What was done with the execution of a ticket; `cancel` is what the product said to a cancel, if it did."""

    number: str
    wish: Wish
    cancel: str | None = None
    retrial: Retrial | None = None
