"""Names that people give to workflows and nodes, and names made for them."""

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable
from typing import Any

from pipelit.errors import Invalid
from pipelit.nodes import registry
from pipelit.nodes.base import NodeType

NODE_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
"""A name that expressions can use."""

RESERVED_NODE_IDS = frozenset(
    {"trigger", "loop", "execution", "self", "and", "or", "not", "in", "is", "if", "elif", "else", "for"}
    | {"true", "false", "none", "True", "False", "None"}
)
"""Names that mean something else inside an expression."""

RESERVED_SLUGS = frozenset({"node-types", "batch-delete", "validate-dsl", "import"})
"""Slugs that are routes of the API."""

LONGEST_MADE_SLUG = 80


def slug_from(name: str) -> str:
    """A slug that reminds of a name: `Order intake №2` → `order-intake-no2`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:LONGEST_MADE_SLUG].strip("-")
    return slug or "workflow"


def first_free(wanted: str, taken: Collection[str]) -> str:
    """`wanted`, or else `wanted-2`, `wanted-3`, …"""
    if wanted not in taken:
        return wanted
    number = 2
    while f"{wanted}-{number}" in taken:
        number += 1
    return f"{wanted}-{number}"


def node_id_for(component_type: str, taken: Collection[str]) -> str:
    """A free name for a node of this type: `switch_1`, `switch_2`, …"""
    base = re.sub(r"\W", "_", component_type, flags=re.ASCII)[:90]
    base = f"_{base}" if base[:1].isdigit() else base
    number = 1
    while f"{base}_{number}" in taken:
        number += 1
    return f"{base}_{number}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that names the closest of the known names, after a space; nothing if none is close."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean '{close[0]}'?" if close else ""


def node_type(name: str, path: str = "component_type") -> NodeType[Any]:
    """The node type called `name`. Raises `Invalid` for the field at `path`, naming the closest type there is."""
    known = registry.load()
    if name not in known:
        message = f"There is no node type called '{name[:60]}'.{did_you_mean(name, known)}"
        raise Invalid(message, {path: [message]})
    return known[name]
