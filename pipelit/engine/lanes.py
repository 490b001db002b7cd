"""On which queue the messages of a step go."""

from pipelit.engine.core.graph import PlanNode
from pipelit.nodes import registry
from pipelit.nodes.base import StepNode

ORDINARY = "default"


def lane_of(node: PlanNode) -> str:
    """The lane that the node's type asks for; of a type that this process does not know, the ordinary one."""
    node_type = registry.load().get(node.type)
    return node_type.lane if isinstance(node_type, StepNode) else ORDINARY
