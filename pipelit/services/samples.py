"""The workflow that a new installation comes with: it runs without any account anywhere."""

import json
from importlib import resources

from sqlalchemy import exists, select

from pipelit.extensions import transaction
from pipelit.models import Workflow
from pipelit.services import graph, locks
from pipelit.services.drafts import EdgeDraft, GraphDraft, NodeDraft
from pipelit.services.editing import Edit

FILE = "sample_workflow.json"


def seed() -> Workflow | None:
    """Make the sample, visible to everybody, if the installation never had a workflow.

    Deleted workflows leave their rows behind, so a sample that somebody deleted does not come back.
    """
    with transaction() as session:
        locks.hold(session, locks.SAMPLES)
        if session.scalar(select(exists(select(Workflow.id)))):
            return None
        draft = sample()
        workflow = Workflow(owner_id=None, is_public=True, **draft.workflow)
        session.add(workflow)
        session.flush()
        graph.put(Edit(session, workflow, None), draft)
        return workflow


def sample() -> GraphDraft:
    """The sample as a draft."""
    document = json.loads(resources.files("pipelit.services").joinpath(FILE).read_text(encoding="utf-8"))
    return GraphDraft(
        nodes=[NodeDraft(**node) for node in document["nodes"]],
        edges=[EdgeDraft(**edge) for edge in document["edges"]],
        workflow=document["workflow"],
    )
