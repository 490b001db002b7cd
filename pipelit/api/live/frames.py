"""What goes over a WebSocket, as bytes: one frame for each message, encoded once however many clients get it."""

import json
from collections.abc import Mapping

from pipelit.engine.broadcast import LiveEvent

FINAL_TEXT = 0x81
"""First byte of a frame: a whole text message (RFC 6455, 5.2). A server's frames are not masked."""


def text_frame(text: str) -> bytes:
    """A text message."""
    payload = text.encode("utf-8", "replace")
    size = len(payload)
    if size < 126:
        head = bytes((FINAL_TEXT, size))
    elif size < 1 << 16:
        head = bytes((FINAL_TEXT, 126)) + size.to_bytes(2)
    else:
        head = bytes((FINAL_TEXT, 127)) + size.to_bytes(8)
    return head + payload


def message_frame(message: Mapping[str, object]) -> bytes:
    """A message of ours that is no event."""
    return text_frame(json.dumps(message, separators=(",", ":")))


def event_frame(channel: str, event: LiveEvent) -> bytes:
    """An event, with the channel it came over and its number put into its JSON as it stands."""
    number = "" if event.seq is None else f',"seq":{event.seq}'
    return text_frame(f'{event.body[:-1]},"channel":{json.dumps(channel)}{number}}}')
