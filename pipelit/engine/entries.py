"""What the journal is made of: one fact about an execution, on its way from the working state to SQL."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pipelit.engine.core.graph import Json
from pipelit.engine.keys import JOURNAL


class Kind(StrEnum):
    """What an entry tells."""

    STARTED = "started"
    LOG = "log"
    CHECKPOINT = "checkpoint"
    HELD = "held"
    RELEASED = "released"
    EDITED = "edited"
    WAITED = "waited"
    ENDED = "ended"


class Checkpoint(StrEnum):
    """What a step that has not ended may have done for good."""

    ITERATING = "iterating"
    WAITING = "waiting"
    RELEASED_BEFORE = "released_before"
    RELEASED_AFTER = "released_after"
    BEGUN = "begun"


@dataclass(frozen=True, slots=True)
class Entry:
    """`facts` are columns of the row; `input` and `output` are JSON texts that are passed through untouched."""

    execution_id: str
    kind: Kind
    facts: Mapping[str, Json]
    input: str | None = None
    output: str | None = None

    def words(self) -> list[str]:
        """The command that appends the entry."""
        words = ["XADD", JOURNAL, "*", "x", self.execution_id, "k", self.kind, "f", json.dumps(dict(self.facts))]
        if self.input is not None:
            words += ["i", self.input]
        if self.output is not None:
            words += ["o", self.output]
        return words

    @classmethod
    def read(cls, fields: Mapping[str, str]) -> "Entry":
        return cls(fields["x"], Kind(fields["k"]), json.loads(fields["f"]), fields.get("i"), fields.get("o"))
