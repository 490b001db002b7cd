"""What node types there are, as the palette and the forms need to know it."""

from collections.abc import Mapping
from functools import cache

from pipelit.nodes import registry
from pipelit.nodes.ports import Json


@cache
def described() -> Mapping[str, Mapping[str, Json]]:
    """The description of every node type by its name. The same for the life of a process."""
    from pipelit.nodes import describe

    return {name: describe.describe(node_type) for name, node_type in registry.load().items()}
