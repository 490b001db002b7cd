"""Before a workflow runs, its author can ask what would keep it from doing so."""

from tests.api.shop import GREETING, HOOK, SORT, add, edge, shop, workflow
from tests.support.callers import Caller


def problems(caller: Caller, slug: str) -> list[tuple[str, str | None]]:
    """The codes of the problems, each with its node."""
    answer = caller.post(f"/workflows/{slug}/validate/")
    assert answer.status_code == 200
    assert answer.json["valid"] is not answer.json["errors"]
    return [(problem["code"], problem.get("node_id")) for problem in answer.json["errors"]]


def test_a_workflow_that_can_run_is_valid(normal: Caller) -> None:
    assert normal.post(f"/workflows/{shop(normal)}/validate/").json == {"valid": True, "errors": []}


def test_an_empty_workflow_has_nothing_that_could_start_it(normal: Caller) -> None:
    assert problems(normal, workflow(normal)) == [("no_trigger", None)]


def test_an_expression_that_reads_a_renamed_node_is_reported(normal: Caller) -> None:
    slug = shop(normal)
    normal.patch(f"/workflows/{slug}/nodes/greeting/", {"node_id": "hello"})

    assert sorted(problems(normal, slug)) == [("unknown_name", "plain"), ("unknown_name", "red")]


def test_an_expression_that_cannot_be_read_is_reported(normal: Caller) -> None:
    slug = workflow(normal)
    add(normal, slug, HOOK, {**GREETING, "config": {"template": "{{ hook.payload. }}"}})
    edge(normal, slug, "hook", "greeting")

    assert ("expression_syntax", "greeting") in problems(normal, slug)


def test_an_edge_whose_route_was_taken_away_is_reported_with_its_number(normal: Caller) -> None:
    slug = shop(normal)
    normal.patch(f"/workflows/{slug}/nodes/sort/", {"config": {"rules": []}})

    answer = normal.post(f"/workflows/{slug}/validate/").json

    numbers = {
        found["id"] for found in normal.get(f"/workflows/{slug}/edges/").json if found["condition_value"] == "vip"
    }
    assert [problem["code"] for problem in answer["errors"]] == ["edge_invalid"]
    assert {problem["edge_id"] for problem in answer["errors"]} == numbers
    assert "no route 'vip'" in answer["errors"][0]["message"]


def test_everybody_who_may_look_may_ask(normal: Caller, stranger: Caller) -> None:
    slug = workflow(normal, is_public=True)
    add(normal, slug, SORT)

    assert stranger.post(f"/workflows/{slug}/validate/").json["valid"] is False
    normal.patch(f"/workflows/{slug}/", {"is_public": False})
    assert stranger.post(f"/workflows/{slug}/validate/").status_code == 404
