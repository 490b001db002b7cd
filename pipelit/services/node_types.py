"""What node types there are, as the palette and the forms need to know it."""

from collections.abc import Mapping
from functools import cache

from pipelit.nodes import registry
from pipelit.nodes.describe import NodeTypeDescription, describe


@cache
def described() -> Mapping[str, NodeTypeDescription]:
    """The description of every node type by its name: the same for the life of a process."""
    return {name: describe(node_type) for name, node_type in registry.load().items()}
