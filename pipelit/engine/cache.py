"""Plans by the hash of their content: in the process, in Redis, and in SQL for ever."""

import threading
from collections import OrderedDict

from redis import Redis

from pipelit.engine.core import codec
from pipelit.engine.core.graph import Plan
from pipelit.engine.keys import plan_key
from pipelit.errors import NotFound
from pipelit.extensions import db
from pipelit.models.execution import CompiledPlan

KEPT = 256
"""Plans that one process keeps; the least recently used one goes first."""

TTL_SECONDS = 86_400


class Plans:
    """Finds plans, fastest place first. A plan never changes, so nothing is ever invalidated: a new graph has a new hash."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._kept: OrderedDict[str, Plan] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, workflow_id: int, plan_hash: str) -> Plan:
        """The plan, from wherever it is. Needs an application context only when Redis does not have it."""
        with self._lock:
            if (kept := self._kept.get(plan_hash)) is not None:
                self._kept.move_to_end(plan_hash)
                return kept
        text = self.redis.get(plan_key(workflow_id, plan_hash)) or self._load(workflow_id, plan_hash)
        return self._keep(plan_hash, codec.decode_plan(str(text)))

    def put(self, plan_hash: str, plan: Plan, text: str) -> None:
        """Share a new plan with the workers before the first message that needs it."""
        self.redis.set(plan_key(plan.workflow_id, plan_hash), text, ex=TTL_SECONDS)
        self._keep(plan_hash, plan)

    def _load(self, workflow_id: int, plan_hash: str) -> str:
        row = db.session.get(CompiledPlan, plan_hash)
        if row is None:
            raise NotFound(f"The plan {plan_hash} is not stored.")
        self.redis.set(plan_key(workflow_id, plan_hash), row.plan, ex=TTL_SECONDS)
        return row.plan

    def _keep(self, plan_hash: str, plan: Plan) -> Plan:
        with self._lock:
            self._kept[plan_hash] = plan
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return plan
