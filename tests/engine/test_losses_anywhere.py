"""Whenever the server loses everything, whatever SQL had heard of by then, an execution ends as if nothing was."""

from collections import Counter
from random import Random

import pytest
from sqlalchemy import select

from pipelit.engine import journal
from pipelit.engine.entries import Entry
from pipelit.engine.keys import JOURNAL
from pipelit.engine.runtime import engine
from pipelit.extensions import db
from pipelit.models import PendingTask, UserProfile, WorkflowExecution
from pipelit.services import answers, executions, workflows
from pipelit.services.answers import Answer
from pipelit.services.drafts import EdgeDraft, GraphDraft, NodeDraft
from tests.engine.losses import restore
from tests.engine.stories import author, outcome
from tests.faults.workflows import CHOICES, Drawing, draw_inert
from tests.support.hand import QUEUES, Hand

LOSSES = 4
MOST = 2_000


@pytest.mark.parametrize("seed", range(16))
def test_whenever_everything_is_lost_an_execution_ends_as_if_nothing_was(hand: Hand, seed: int) -> None:
    random, ada = Random(seed), author()
    drawing, choice = draw_inert(random, f"drawn-{seed}", depth=2), random.choice(CHOICES)
    make(drawing, by=ada)
    calm = begun(drawing, choice, by=ada)
    steps = run(hand, calm, by=ada)

    row = begun(drawing, choice, by=ada)
    for _ in range(LOSSES):
        run(hand, row, by=ada, most=random.randrange(steps + 1))
        lose_in_the_middle(hand, random)
        is_live = is_live_in_sql(row)
        assert restore(hand) == is_live
    run(hand, row, by=ada)

    assert (outcome(row).status, outcome(row).final_output) == ("completed", outcome(calm).final_output)
    ended = Counter((log.node_id, log.scope) for log in outcome(row).logs if log.status == "success")
    assert set(ended.values()) == {1}


def make(drawing: Drawing, *, by: UserProfile) -> None:
    nodes = [NodeDraft(**node) for node in drawing.nodes]
    edges = [EdgeDraft(**edge) for edge in drawing.edges]
    workflows.import_(GraphDraft(nodes, edges, drawing.about), by=by)


def begun(drawing: Drawing, choice: str, *, by: UserProfile) -> WorkflowExecution:
    row = executions.start(drawing.name, by=by, payload={"choice": choice, "ticket": "t"})
    engine().drain_journal()
    return row


def run(hand: Hand, row: WorkflowExecution, *, by: UserProfile, most: int = MOST) -> int:
    """Deliver messages and answer questions, until the execution has ended or so many are delivered; how many were."""
    for count in range(most):
        if not any(hand.deliver(queue) for queue in QUEUES) and not answer(row, by=by):
            return count
    return most


def is_live_in_sql(row: WorkflowExecution) -> bool:
    db.session.rollback()
    return executions.fresh(row.execution_id).is_live


def answer(row: WorkflowExecution, *, by: UserProfile) -> bool:
    """Say yes to what is asked; False if nothing is."""
    engine().drain_journal()
    db.session.rollback()
    asked = db.session.scalars(select(PendingTask.node_id).filter_by(execution_id=row.execution_id)).first()
    if asked is not None:
        answers.answer(row.execution_id, Answer(node_id=asked, decision="approve"), by=by)
    return asked is not None


def lose_in_the_middle(hand: Hand, random: Random) -> None:
    """Everything is lost while the journal's writer is at it: SQL has heard of a part."""
    found = [Entry.read(fields) for _, fields in hand.redis.xrange(JOURNAL)]
    journal.write(found[: random.randint(0, len(found))], engine().store)
    hand.redis.flushall()
