"""Which Plan a workflow has at present, and the version of the workflow that goes with it."""

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from pipelit import clock
from pipelit.engine.cache import Compiled
from pipelit.engine.compiler import compile_plan
from pipelit.engine.core import codec
from pipelit.engine.runtime import engine
from pipelit.errors import Invalid
from pipelit.extensions import db, transaction
from pipelit.models import CompiledPlan, Workflow, WorkflowNode, WorkflowVersion
from pipelit.nodes import registry
from pipelit.nodes.base import TriggerNode
from pipelit.services import content, graph, idempotency

TRUSTED_MS = 12 * 3_600_000
"""How long a process relies on what it has stored; well below what `retention` leaves alone."""


def current(workflow: Workflow, trigger_node_id: str) -> Compiled:
    """The plan of what a trigger reaches in the workflow as it is now, stored so that an execution can refer to it.

    A revision never changes, so what was found once holds for this process, and is stored again now and then: plans
    that nothing refers to are not kept for ever. Raises `InvalidGraph`.
    """
    found = engine().plans.compiled.get((workflow.id, workflow.revision, trigger_node_id))
    if found is not None and clock.now_ms() - found.at_ms < TRUSTED_MS:
        return found
    return _compile(workflow, trigger_node_id)


def choose_trigger(workflow: Workflow, wanted: str | None) -> str:
    """The trigger to start from: the one named, or the entry point, or the only one there is."""
    mine = select(WorkflowNode).where(WorkflowNode.workflow_id == workflow.id).order_by(WorkflowNode.id)
    nodes = [n for n in db.session.scalars(mine) if isinstance(registry.load().get(n.component_type), TriggerNode)]
    names = [node.node_id for node in nodes]
    listed = f"Its triggers are: {', '.join(names)}." if names else "It has no trigger; add one."
    if wanted is not None:
        if wanted not in names:
            raise _no_trigger(f"'{wanted}' is not a trigger of this workflow. {listed}")
        return wanted
    entries = [node.node_id for node in nodes if node.is_entry_point] or names
    if len(entries) != 1:
        raise _no_trigger(f"Say which trigger to start from. {listed}")
    return entries[0]


def first_trigger(workflow: Workflow, kind: str) -> str | None:
    """The trigger that answers to events of a kind: the entry point, or else the oldest; None if there is none."""
    types = [known.type for known in registry.triggers(kind)]
    mine = select(WorkflowNode.node_id).where(
        WorkflowNode.workflow_id == workflow.id, WorkflowNode.component_type.in_(types)
    )
    return db.session.scalars(mine.order_by(WorkflowNode.is_entry_point.desc(), WorkflowNode.id).limit(1)).first()


def _no_trigger(message: str) -> Invalid:
    return Invalid(message, {"trigger_node_id": [message]})


def _compile(workflow: Workflow, trigger_node_id: str) -> Compiled:
    loaded = _loaded_at_one_revision(workflow)
    plan = compile_plan(loaded.id, loaded.nodes, loaded.edges, trigger_node_id)
    text = codec.encode_plan(plan)
    plan_hash = codec.structure_hash(text)
    try:
        with idempotency.preparing(), transaction() as session:
            version_id = _store(session, loaded, plan_hash, text)
    except IntegrityError:
        # Another process stored the same plan or version at the same time; now they are there to be found.
        with idempotency.preparing(), transaction() as session:
            version_id = _store(session, loaded, plan_hash, text)
    engine().plans.share(plan_hash, plan, text)
    return engine().plans.compiled.put(
        (loaded.id, loaded.revision, trigger_node_id), Compiled(plan, plan_hash, version_id, clock.now_ms())
    )


def _loaded_at_one_revision(workflow: Workflow) -> Workflow:
    """The graph as it was at one moment: somebody may change it between the statements that read it."""
    while True:
        loaded = graph.loaded(workflow)
        now = select(Workflow.revision).where(Workflow.id == workflow.id)
        if db.session.scalar(now) == loaded.revision:
            return loaded


def _store(session: Session, workflow: Workflow, plan_hash: str, text: str) -> int:
    known = session.get(CompiledPlan, plan_hash)
    if known is None:
        session.add(CompiledPlan(hash=plan_hash, plan=text))
    else:
        known.compiled_at = clock.now()
    mine = WorkflowVersion.workflow_id == workflow.id
    there = session.scalar(select(WorkflowVersion.id).where(mine, WorkflowVersion.revision == workflow.revision))
    if there is not None:
        return there
    last = session.scalar(select(func.max(WorkflowVersion.number)).where(mine)) or 0
    version = WorkflowVersion(
        workflow_id=workflow.id,
        number=last + 1,
        revision=workflow.revision,
        graph=content.document(workflow),
        created_by_id=workflow.owner_id,
    )
    session.add(version)
    session.flush()
    return version.id
