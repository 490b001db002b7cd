"""Started by hand, from the editor or through the API."""

from marshmallow import fields

from pipelit.nodes.base import NodeConfig, TriggerEvent, TriggerNode
from pipelit.nodes.ports import DataType, Json, Port
from pipelit.nodes.settings import config, setting


@config
class ManualConfig(NodeConfig):
    """A sample to start with while the workflow is being drawn."""

    sample: dict[str, Json] = setting(
        fields.Dict(keys=fields.String(), values=fields.Raw(allow_none=True)),
        title="Sample payload",
        help="Used when the workflow is started without a payload.",
        default={},
        widget="json",
        is_literal=True,
    )


class TriggerManual(TriggerNode[ManualConfig]):
    """Starts the workflow when somebody asks for it: with the editor's button or `POST …/execute/`.

    `text` and `payload` are what the caller sent. Without a payload the sample stands in; without a text it is the
    payload's own `text`, or empty.
    """

    type = "trigger_manual"
    title = "Manual start"
    icon = "play"
    kind = "manual"
    outputs = (
        Port("payload", DataType.OBJECT, "What the caller sent."),
        Port("text", DataType.STRING, "The caller's text."),
    )
    main_port = "payload"
    example = {"sample": {"text": "Hello", "type": "order"}}
    Config = ManualConfig

    def emit(self, config: ManualConfig, event: TriggerEvent) -> dict[str, Json]:
        sent = event.payload.get("payload")
        payload = sent if isinstance(sent, dict) and sent else dict(config.sample)
        text = event.payload.get("text") or payload.get("text")
        return {"payload": payload, "text": text if isinstance(text, str) else ""}
