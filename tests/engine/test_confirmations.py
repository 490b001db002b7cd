"""People who are asked: who may answer, what they fill in, and what happens when nobody does."""

from collections.abc import Mapping
from typing import Any

import pytest

from pipelit import clock
from pipelit.engine.keys import DEADLINES
from pipelit.engine.runtime import engine
from pipelit.errors import Forbidden, Invalid, NotFound, WrongState
from pipelit.extensions import db, transaction
from pipelit.models import PendingTask, UserProfile, WorkflowCollaborator, WorkflowExecution
from pipelit.services import answers, execution_events, executions
from pipelit.services.answers import Answer
from pipelit.services.paging import Page
from tests.engine.stories import attempts, author, outcome, output_of, started, template
from tests.support.hand import Hand
from tests.support.workflows import build

FORM = [
    {"name": "reason", "label": "Why?", "type": "text", "required": True},
    {"name": "amount", "type": "number"},
    {"name": "sure", "type": "boolean"},
    {"name": "how", "type": "select", "options": ["cash", "card"]},
    {"name": "when", "type": "date"},
]
YES = {"yes": template("yes: {{ ask.data.reason }}"), "no": template("no, says {{ ask.decided_by }}")}
EDGES = "start -> ask; ask.approved -> yes; ask.rejected -> no"
GOOD: dict[str, Any] = {"reason": "broken", "amount": 7.5, "sure": True, "how": "cash", "when": "2030-01-31"}


def person(name: str) -> UserProfile:
    with transaction() as session:
        user = UserProfile(username=name)
        session.add(user)
    return user


def asking(hand: Hand, *, by: UserProfile | None = None, **config: Any) -> WorkflowExecution:
    """An execution that has come to its question."""
    ask = ("human_confirmation", {"prompt": "Refund {{ trigger.text }}?", "form": FORM, **config})
    row = started({"ask": ask, **YES}, EDGES, by=by or author(), text="Ada")
    hand.run_all(until=lambda: not hand.waiting())
    engine().drain_journal()
    db.session.rollback()
    return row


def questions(by: UserProfile, **filters: Any) -> list[str]:
    db.session.rollback()
    return [question.task.node_id for question in answers.waiting_for(by, Page(), **filters).items]


def test_whoever_approves_fills_in_the_form_and_the_approved_way_is_taken(hand: Hand) -> None:
    ada = author()
    row = asking(hand, by=ada)
    (question,) = answers.waiting_for(ada, Page()).items
    assert (question.task.prompt, question.task.kind, question.resume_url) == ("Refund Ada?", "approval", None)
    assert [field["label"] for field in question.task.form] == ["Why?", "amount", "sure", "how", "when"]
    assert (outcome(row).status, hand.waiting()) == ("interrupted", [])

    answers.answer(row.execution_id, Answer(data=GOOD), by=ada)
    hand.run_all()

    assert output_of(row, "ask") == {"approved": True, "data": GOOD, "decided_by": "ada"}
    assert (outcome(row).status, outcome(row).final_output) == ("completed", "yes: broken")
    assert questions(ada) == []


def test_whoever_watches_hears_the_question(hand: Hand) -> None:
    row = asking(hand, timeout_seconds=3600)

    (asked,) = [e for e in execution_events.after(row.execution_id, 0) if e["type"] == "execution_interrupted"]
    task = db.session.query(PendingTask).one()
    told = asked["data"]
    assert (told["prompt"], told["kind"], told["node_id"]) == ("Refund Ada?", "approval", "ask")
    assert (told["task_id"], told["status"]) == (task.task_id, "interrupted")
    assert told["expires_at"].endswith("Z")


def test_a_no_takes_the_other_way_and_needs_no_form(hand: Hand) -> None:
    ada = author()
    row = asking(hand, by=ada)

    answers.answer(row.execution_id, Answer(decision="reject"), by=ada)
    hand.run_all()

    assert (outcome(row).status, outcome(row).final_output) == ("completed", "no, says ada")
    assert attempts(row, "yes") == [(0, "skipped", None)]


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "data.reason"),
        (None, "data.reason"),
        ({"reason": ""}, "data.reason"),
        ({"reason": 5}, "data.reason"),
        ({"reason": "x" * 10_001}, "data.reason"),
        ({**GOOD, "amount": "7"}, "data.amount"),
        ({**GOOD, "amount": True}, "data.amount"),
        ({**GOOD, "sure": "yes"}, "data.sure"),
        ({**GOOD, "how": "gold"}, "data.how"),
        ({**GOOD, "how": ["cash"]}, "data.how"),
        ({**GOOD, "when": "soon"}, "data.when"),
        ({**GOOD, "when": 5}, "data.when"),
        ({**GOOD, "colour": "red"}, "data.colour"),
        ([], "data"),
        ("yes", "data"),
    ],
)
def test_what_does_not_fit_the_form_is_refused_by_name_and_can_be_mended(hand: Hand, data: Any, field: str) -> None:
    ada = author()
    row = asking(hand, by=ada)

    with pytest.raises(Invalid) as refusal:
        answers.answer(row.execution_id, Answer(data=data), by=ada)

    assert list(refusal.value.errors) == [field]
    answers.answer(row.execution_id, Answer(data=GOOD), by=ada)
    hand.run_all()
    assert outcome(row).status == "completed"


@pytest.mark.parametrize(
    ("on_timeout", "status", "output"),
    [("approve", "failed", None), ("reject", "completed", "no, says "), ("fail", "failed", None)],
)
def test_when_the_time_is_over_it_is_decided_without_an_answer(
    hand: Hand, on_timeout: str, status: str, output: str | None
) -> None:
    ada = author()
    row = asking(hand, by=ada, timeout_seconds=60, on_timeout=on_timeout)

    engine().recovery.sweep_deadlines(clock.now_ms() + 59_000)
    assert outcome(row).status == "interrupted"
    engine().recovery.sweep_deadlines(clock.now_ms() + 61_000)
    hand.run_all()

    ended = outcome(row)
    assert (ended.status, ended.final_output) == (status, output)
    expected = [(1, "failed", "approval_timeout")] if on_timeout == "fail" else [(1, "success", None)]
    assert attempts(row, "ask") == expected
    if on_timeout == "approve":  # Nothing was filled in, and the template behind it wants a reason.
        assert ended.error_code == "expression_failed"
    assert (questions(ada), hand.redis.zcard(DEADLINES)) == ([], 0)
    with pytest.raises(WrongState):
        answers.answer(row.execution_id, Answer(data=GOOD), by=ada)


def test_a_short_limit_keeps_the_outcome_too(hand: Hand) -> None:
    row = started(
        {"ask": ("human_confirmation", {"prompt": "Now?", "timeout_seconds": 5, "on_timeout": "approve"})},
        "start -> ask",
    )
    hand.run_all()

    assert output_of(row, "ask") == {"approved": True, "data": {}, "decided_by": None}


def test_the_first_answer_counts(hand: Hand) -> None:
    ada = author()
    row = asking(hand, by=ada)
    answers.answer(row.execution_id, Answer(decision="reject"), by=ada)

    with pytest.raises(WrongState):
        answers.answer(row.execution_id, Answer(data=GOOD), by=ada)
    engine().recovery.sweep_deadlines(clock.now_ms() + 10**9)
    hand.run_all()
    with pytest.raises(WrongState):
        answers.answer(row.execution_id, Answer(data=GOOD), by=ada)

    assert outcome(row).final_output == "no, says ada"


def test_owner_editors_and_named_approvers_may_answer_and_nobody_else(hand: Hand) -> None:
    owner, editor, viewer, named, stranger = (person(n) for n in ("owner", "editor", "viewer", "named", "stranger"))
    ask = ("human_confirmation", {"prompt": "?", "approvers": ["named", "{{ trigger.text }}", "named"]})
    workflow = build({"start": ("trigger_manual", {}), "ask": ask}, "start -> ask", by=owner)
    with transaction() as session:
        for user, role in ((editor, "editor"), (viewer, "viewer")):
            session.add(WorkflowCollaborator(workflow_id=workflow.id, user_profile_id=user.id, role=role))
    rows = [executions.start(workflow.slug, by=owner, text="somebody") for _ in range(3)]
    hand.run_all()
    engine().drain_journal()

    assert [len(questions(user)) for user in (owner, editor, named, viewer, stranger)] == [3, 3, 3, 0, 0]
    with pytest.raises(Forbidden):
        answers.answer(rows[0].execution_id, Answer(), by=viewer)
    with pytest.raises(NotFound):
        answers.answer(rows[0].execution_id, Answer(), by=stranger)
    with pytest.raises(NotFound):
        executions.get(rows[0].execution_id, by=named)
    for row, user in zip(rows, (owner, editor, named), strict=True):
        answers.answer(row.execution_id, Answer(), by=user)
    hand.run_all()

    assert [output_of(row, "ask")["decided_by"] for row in rows] == ["owner", "editor", "named"]


def test_several_questions_are_told_apart_by_their_ids(hand: Hand) -> None:
    ada = author()
    row = started(
        {
            "each": ("loop", {"items": ["a", "b"], "concurrency": 2}),
            "ask": ("human_confirmation", {"prompt": "{{ loop.item }}?"}),
        },
        "start -> each; each =body=> ask; ask =return=> each",
        by=ada,
    )
    hand.run_all()
    engine().drain_journal()
    tasks = {question.task.prompt: question.task.task_id for question in answers.waiting_for(ada, Page()).items}

    answers.answer(row.execution_id, Answer(task_id=tasks["b?"], decision="reject"), by=ada)
    answers.answer(row.execution_id, Answer(task_id=tasks["a?"]), by=ada)
    hand.run_all()

    assert [item["approved"] for item in outcome(row).final_output["results"]] == [True, False]
    with pytest.raises(WrongState):
        answers.answer(row.execution_id, Answer(task_id=tasks["a?"]), by=ada)


def test_the_list_is_narrowed_down(hand: Hand) -> None:
    ada = author()
    row = asking(hand, by=ada)

    assert questions(ada, workflow_slug=row.workflow.slug, execution_id=row.execution_id) == ["ask"]
    assert questions(ada, workflow_slug="other") == questions(ada, execution_id="other") == []


def test_a_question_survives_the_loss_of_its_entry_in_the_journal_twice(hand: Hand) -> None:
    """The writer may die after its rows were committed: written again, the question is still one."""
    ada = author()
    entries: list[Mapping[str, str]] = []
    ask = ("human_confirmation", {"prompt": "?", "approvers": ["bob"]})
    started({"ask": ask}, "start -> ask", by=ada)
    hand.deliver()
    entries = [fields for _, fields in hand.redis.xrange("pipelit:journal")]
    engine().drain_journal()
    for fields in entries:
        hand.redis.xadd("pipelit:journal", fields)
    engine().drain_journal()

    assert questions(ada) == ["ask"]


def test_a_held_step_may_go_on_with_other_settings(hand: Hand) -> None:
    ada = author()
    row = started({"say": template("first", interrupt_before=True)}, "start -> say", by=ada)
    hand.run_all()
    for data, field in (
        ({"template": 5}, "data.template"),
        ({"colour": "red"}, "data.colour"),
        ({"failure": {}}, "data.failure"),
        (["x"], "data"),
    ):
        with pytest.raises(Invalid) as refusal:
            answers.answer(row.execution_id, Answer(data=data), by=ada)
        assert list(refusal.value.errors) == [field]

    answers.answer(row.execution_id, Answer(data={"template": "second {{ nobody }}"}), by=ada)
    hand.run_all()

    assert outcome(row).final_output == "second {{ nobody }}"
    assert attempts(row, "say") == [(1, "success", None)]


def test_a_held_step_may_go_on_with_other_outputs(hand: Hand) -> None:
    ada = author()
    row = started(
        {"say": template("first", interrupt_after=True), "end": template("got {{ say.output }}")},
        "start -> say; say -> end",
        by=ada,
    )
    hand.run_all()
    with pytest.raises(Invalid) as refusal:
        answers.answer(row.execution_id, Answer(data={"colour": "red"}), by=ada)
    assert list(refusal.value.errors) == ["data.colour"]

    answers.answer(row.execution_id, Answer(data={"output": {"a": 1}}), by=ada)
    hand.run_all()

    assert outcome(row).final_output == 'got {"a":1}'
    assert output_of(row, "say") == {"output": {"a": 1}}


def test_what_was_asked_and_held_behind_keeps_its_answer(hand: Hand) -> None:
    """The question of a step is over when it is held after its run: what it had to say then is not said again."""
    ada = author()
    ask = ("human_confirmation", {"prompt": "?", "interrupt_after": True})
    row = started({"ask": ask, "yes": template("yes")}, "start -> ask; ask.approved -> yes", by=ada)
    hand.run_all()
    for _ in range(2):
        answers.answer(row.execution_id, Answer(), by=ada)
        hand.run_all()

    assert output_of(row, "ask")["decided_by"] == "ada"
    assert outcome(row).final_output == "yes"
