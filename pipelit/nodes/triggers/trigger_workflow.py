"""Started by another workflow."""

from pipelit.nodes.base import NodeConfig, TriggerEvent, TriggerNode
from pipelit.nodes.ports import DataType, Json, Port


class TriggerWorkflow(TriggerNode[NodeConfig]):
    """Starts the workflow when another one calls it; `payload` and `text` are what the caller handed over."""

    type = "trigger_workflow"
    title = "Called by a workflow"
    icon = "workflow"
    kind = "workflow"
    outputs = (
        Port("payload", DataType.OBJECT, "What the calling workflow handed over."),
        Port("text", DataType.STRING, "The text it handed over."),
    )
    main_port = "payload"

    def emit(self, config: NodeConfig, event: TriggerEvent) -> dict[str, Json]:
        sent = event.payload.get("payload")
        payload = sent if isinstance(sent, dict) else {}
        text = event.payload.get("text") or payload.get("text")
        return {"payload": payload, "text": text if isinstance(text, str) else ""}
