"""Ports, the types of data that flow between them, and the labels of edges that carry something else."""

from dataclasses import dataclass
from enum import StrEnum

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class DataType(StrEnum):
    """What a port carries."""

    STRING = "STRING"
    NUMBER = "NUMBER"
    BOOLEAN = "BOOLEAN"
    OBJECT = "OBJECT"
    ARRAY = "ARRAY"
    MESSAGES = "MESSAGES"
    FILE = "FILE"
    ANY = "ANY"

    def accepts(self, source: "DataType") -> bool:
        """Whether a port of this type may be fed by one of type `source`."""
        return self is DataType.ANY or self is source


class EdgeLabel(StrEnum):
    """What an edge means; all but `DATA` skip the check of data types and have one of their own."""

    DATA = ""
    LLM = "llm"
    TOOL = "tool"
    MEMORY = "memory"
    OUTPUT_PARSER = "output_parser"
    LOOP_BODY = "loop_body"
    LOOP_RETURN = "loop_return"


PROVIDED = (EdgeLabel.LLM, EdgeLabel.TOOL, EdgeLabel.MEMORY, EdgeLabel.OUTPUT_PARSER)
"""Labels of edges from a provider to the node that uses it; they are bindings, never steps."""


class Category(StrEnum):
    """Where a node type stands in the palette, in the palette's order."""

    TRIGGER = "trigger"
    AI = "ai"
    LOGIC = "logic"
    TOOL = "tool"
    MEMORY = "memory"
    FLOW = "flow"


@dataclass(frozen=True, slots=True)
class Port:
    """A named place where values enter or leave a node."""

    name: str
    type: DataType = DataType.ANY
    description: str = ""
    required: bool = False
