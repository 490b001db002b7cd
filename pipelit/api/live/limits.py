"""How much one process gives those who wait for events."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Times are in seconds. `pause`: a client gets what arrives within it in one piece, once there is much.
    `webhook`: so long a caller is kept waiting for a workflow's answer.
    """

    connections: int = 2000
    subscriptions: int = 100
    message_bytes: int = 64 * 1024
    unread_messages: int = 200
    queued_messages: int = 1000
    queued_bytes: int = 4 * 1024 * 1024
    blocked: float = 10.0
    authentication: float = 10.0
    confirmation: float = 10.0
    ping: float = 30.0
    missed_pongs: int = 2
    farewell: float = 1.0
    farewell_at_restart: float = 0.25
    pause: float = 0.05
    webhook: float = 30.0
