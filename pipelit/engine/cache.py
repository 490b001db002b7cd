"""Plans by the hash of their content: in the process, in Redis, and in SQL for as long as they are referred to."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog
from redis import Redis
from redis.exceptions import RedisError

from pipelit.engine.core import codec
from pipelit.engine.core.graph import Plan
from pipelit.engine.keys import plan_key
from pipelit.errors import NotFound
from pipelit.extensions import db
from pipelit.models.execution import CompiledPlan

log = structlog.get_logger(__name__)

K = TypeVar("K")
V = TypeVar("V")

KEPT = 512
TTL_SECONDS = 86_400


class Recent(Generic[K, V]):
    """The values used last, `size` of them; shared by the threads of a process."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: K, value: V) -> V:
        with self._lock:
            self._values[key] = value
            while len(self._values) > self.size:
                self._values.popitem(last=False)
        return value


@dataclass(frozen=True, slots=True)
class Compiled:
    """A stored plan, the workflow version it was compiled from, and when (ms since the epoch)."""

    plan: Plan
    plan_hash: str
    version_id: int
    at_ms: int


class Plans:
    """Finds plans, the fastest place first; `compiled` is by workflow id, revision and trigger.

    A plan never changes, so nothing is ever invalidated: a new graph has a new hash.
    """

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.compiled: Recent[tuple[int, int, str], Compiled] = Recent(KEPT)
        self._plans: Recent[str, Plan] = Recent(KEPT)

    def get(self, workflow_id: int, plan_hash: str) -> Plan:
        """The plan, from wherever it is. Needs an application context only when Redis does not have it."""
        if (kept := self._plans.get(plan_hash)) is not None:
            return kept
        text = self.redis.get(plan_key(workflow_id, plan_hash)) or self._load(workflow_id, plan_hash)
        return self._plans.put(plan_hash, codec.decode_plan(str(text)))

    def share(self, plan_hash: str, plan: Plan, text: str) -> None:
        """Let the workers find a new plan without asking SQL."""
        self._plans.put(plan_hash, plan)
        try:
            self.redis.set(plan_key(plan.workflow_id, plan_hash), text, ex=TTL_SECONDS)
        except RedisError:
            # An execution is accepted without a broker too; who runs it finds the plan in SQL.
            log.info("plan_not_shared", plan_hash=plan_hash)

    def _load(self, workflow_id: int, plan_hash: str) -> str:
        row = db.session.get(CompiledPlan, plan_hash)
        if row is None:
            raise NotFound(f"The plan {plan_hash} is not stored.")
        self.redis.set(plan_key(workflow_id, plan_hash), row.plan, ex=TTL_SECONDS)
        return row.plan
