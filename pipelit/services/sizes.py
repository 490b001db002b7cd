"""How much JSON of somebody else's we keep in one field."""

import json

from pipelit.nodes.ports import Json

DEEPEST = 64


def objection(value: Json, *, most_bytes: int, deepest: int = DEEPEST) -> str | None:
    """Why a value is not kept; None if it may be."""
    if _is_deeper_than(value, deepest):
        return f"Nested deeper than {deepest} levels."
    if len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) > most_bytes:
        return f"Larger than {most_bytes // 1024} KiB."
    return None


def _is_deeper_than(value: Json, limit: int) -> bool:
    """Level by level, because what is too deep to recurse into is exactly what this looks for."""
    level = [value]
    for _ in range(limit):
        inner = (part for part in level if isinstance(part, dict | list))
        level = [child for part in inner for child in (part.values() if isinstance(part, dict) else part)]
        if not level:
            return False
    return True
