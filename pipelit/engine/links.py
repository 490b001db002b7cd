"""Addresses at which a stranger resumes one waiting step: whoever knows one may use it, and nobody can guess it.

An address names the execution and the step, and proves itself by an HMAC. So it can be sent before the step waits, is
the same after any loss, and nothing is stored for it.
"""

import base64
import binascii
import hashlib
import hmac

from pipelit.config import Settings
from pipelit.engine.core.state import StepId

PATH = "/api/v1/resume/"
PURPOSE = b"resume a waiting step\n"
LONGEST = 2_000


def url(settings: Settings, execution_id: str, step: StepId) -> str:
    """The address that resumes a step."""
    return f"{settings.base_url}{PATH}{token(settings, execution_id, step)}/"


def token(settings: Settings, execution_id: str, step: StepId) -> str:
    """What the address ends with."""
    named = f"{execution_id}\n{step}".encode()
    return f"{_text(named)}.{_text(_proof(settings, named))}"


def read(settings: Settings, text: str) -> tuple[str, StepId] | None:
    """The execution and the step of a token of ours; None for anything else, found out in the same time."""
    named, proof = (_raw(part) for part in (text[:LONGEST].partition(".")[::2]))
    if not hmac.compare_digest(_proof(settings, named), proof):
        return None
    execution_id, _, step = named.decode().partition("\n")
    return execution_id, StepId.parse(step)


def _proof(settings: Settings, named: bytes) -> bytes:
    return hmac.new(settings.secret_key.encode(), PURPOSE + named, hashlib.sha256).digest()


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _raw(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
