"""What is kept of a run that found something: what the database and the server say, and what the processes logged."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from tests.faults import recovery
from tests.faults.product import Installation

TABLES = (
    "workflow_executions",
    "execution_logs",
    "step_checkpoints",
    "pending_tasks",
    "workflows",
    "idempotency_records",
)


def keep(there: Installation, folder: Path) -> None:
    """Write everything into a folder, while the installation is still there to be asked."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "logs.txt").write_text(there.said())
    try:
        (folder / "redis.json").write_text(_text(_keys(there.redis)))
        for table in TABLES:
            (folder / f"{table}.json").write_text(_text(there.rows(f"SELECT * FROM {table}")))
        (folder / "events.json").write_text(_text(recovery.kept_events(there)))
    except (RedisError, SQLAlchemyError) as error:
        (folder / "incomplete.txt").write_text(str(error))


def _keys(redis: Redis) -> Mapping[str, Any]:
    """Every key that says where something stands, with what it holds."""
    return {key: _value(redis, key) for key in sorted(redis.scan_iter("*", count=1000))}


def _value(redis: Redis, key: str) -> Any:
    match redis.type(key):
        case "hash":
            return redis.hgetall(key)
        case "zset":
            return redis.zrange(key, 0, -1, withscores=True)
        case "list":
            return redis.lrange(key, 0, -1)
        case "stream":
            return redis.xrange(key)
        case "set":
            return sorted(redis.smembers(key))
        case _:
            return redis.get(key)


def _text(found: object) -> str:
    return json.dumps(found, default=str, indent=1)
