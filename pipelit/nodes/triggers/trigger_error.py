"""Started by the failure of an execution."""

from pipelit.nodes.base import NodeConfig, TriggerEvent, TriggerNode
from pipelit.nodes.ports import DataType, Json, Port


class TriggerError(TriggerNode[NodeConfig]):
    """Starts the workflow when an execution failed or took too long.

    It answers for the workflow it stands in, and for every workflow that names this one as its error handler. Each
    failed execution starts it once. Executions that were cancelled do not, nor does what an error workflow itself
    started: errors of those who handle errors are for a person. Of several such triggers the first one counts.
    """

    type = "trigger_error"
    title = "Error"
    icon = "siren"
    kind = "error"
    outputs = (
        Port(
            "error",
            DataType.OBJECT,
            "The failed execution: execution_id, workflow_slug, workflow_name, status, node_id, error, error_code, "
            "trigger, started_at, ended_at.",
        ),
    )
    main_port = "error"

    def emit(self, config: NodeConfig, event: TriggerEvent) -> dict[str, Json]:
        if event.kind == self.kind:
            return {"error": dict(event.payload)}
        given = event.payload.get("payload")
        return {"error": given if isinstance(given, dict) else {}}
