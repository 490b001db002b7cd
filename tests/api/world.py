"""An installation with a bit of everything, at addresses that `schemathesis.toml` knows, mended when something went."""

import hashlib
from dataclasses import dataclass

from flask import Flask
from sqlalchemy import select, text

from pipelit import clock
from pipelit.engine.compiler import compile_plan
from pipelit.engine.core import codec
from pipelit.extensions import db, transaction
from pipelit.models import APIKey, Base, CompiledPlan, ExecutionLog, UserProfile, Workflow, WorkflowExecution
from tests.support.callers import Caller

CALLER, SOMEBODY = 1_000_001, 1_000_002
OWN_KEY, THEIR_KEY, KEY_IN_USE = 2_000_001, 2_000_002, 1_500_000
KEY = "pl_known-to-tests-only"
HEADERS = {"Authorization": f"Bearer {KEY}"}
"""Those of an administrator who is not to be found by trying small numbers."""

STILL_THERE = text(
    """
    SELECT (SELECT count(*) FROM workflows WHERE slug = 'known' AND deleted_at IS NULL)
         + (SELECT count(*) FROM workflow_nodes WHERE id IN (1, 2, 3) AND node_id IN ('start', 'hook', 'greeting'))
         + (SELECT count(*) FROM workflow_edges WHERE id = 1)
         + (SELECT count(*) FROM workflow_collaborators WHERE id = 1)
         + (SELECT count(*) FROM user_profiles WHERE id IN (1000001, 1000002))
         + (SELECT count(*) FROM workflow_executions WHERE execution_id = 'ended' AND status = 'completed')
         + (SELECT count(*) FROM execution_logs WHERE id = 1)
         + (SELECT count(*) FROM api_keys WHERE id IN (1500000, 2000001, 2000002))
    """
)
PARTS = 13

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
GRAPH = {
    "nodes": [
        {"node_id": "start", "component_type": "trigger_manual", "is_entry_point": True},
        {"node_id": "hook", "component_type": "trigger_webhook", "config": {"path": "known-hook", "methods": METHODS}},
        {"node_id": "greeting", "component_type": "template", "config": {"template": "Hello {{ start.text }}"}},
    ],
    "edges": [
        {"source_node_id": "start", "target_node_id": "greeting"},
    ],
}


@dataclass
class World:
    """What is behind an application, made by `build` and kept by `mend`."""

    app: Flask

    def mend(self) -> None:
        """Start over if the last request took something away that the next one should find."""
        with self.app.app_context():
            is_whole = db.session.scalar(STILL_THERE) == PARTS
        if not is_whole:
            self.build()

    def build(self) -> None:
        with self.app.app_context(), transaction() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(table.delete())
            session.add(UserProfile(id=CALLER, username="schemathesis", role="admin"))
            session.add(UserProfile(id=SOMEBODY, username="grace"))
            session.flush()
            known = hashlib.sha256(KEY.encode()).hexdigest()
            session.add(APIKey(id=KEY_IN_USE, user_id=CALLER, name="in use", prefix=KEY[:10], key_hash=known))
            for number, owner in ((OWN_KEY, CALLER), (THEIR_KEY, SOMEBODY)):
                session.add(APIKey(id=number, user_id=owner, name="spare", prefix="pl_spare", key_hash=str(number)))
        admin = Caller(self.app.test_client(), KEY)
        assert admin.post("/workflows/", {"name": "Known", "slug": "known"}).status_code == 201
        assert admin.put("/workflows/known/graph/", GRAPH).status_code == 200
        share = {"user_id": SOMEBODY, "role": "viewer"}
        assert admin.post("/workflows/known/collaborators/", share).status_code == 201
        with self.app.app_context(), transaction() as session:
            workflow = session.scalars(select(Workflow)).one()
            plan = codec.encode_plan(compile_plan(workflow.id, workflow.nodes, workflow.edges, "start"))
            session.add(CompiledPlan(hash=codec.structure_hash(plan), plan=plan))
            session.flush()
            session.add(_ended(workflow.id, codec.structure_hash(plan)))
            session.flush()
            step = {"node_id": "greeting", "component_type": "template", "status": "success"}
            session.add(ExecutionLog(id=1, execution_id="ended", **step))


def _ended(workflow_id: int, plan_hash: str) -> WorkflowExecution:
    return WorkflowExecution(
        execution_id="ended",
        workflow_id=workflow_id,
        plan_hash=plan_hash,
        trigger_node_id="start",
        status="completed",
        trigger_payload={"text": "Hello"},
        trigger_output={"text": "Hello", "payload": {}},
        started_at=clock.now(),
        completed_at=clock.now(),
    )
