"""People join nodes by edges; an edge that could never carry anything is refused where it is drawn."""

import pytest

from tests.api.shop import GREETING, HOOK, JOIN, RED, SORT, add, edge, shop, workflow
from tests.support.callers import Caller

LOOP = {"node_id": "each", "component_type": "loop", "config": {"items": "{{ hook.body }}"}}


@pytest.fixture
def slug(normal: Caller) -> str:
    """A workflow with nodes of several kinds and no edges."""
    slug = workflow(normal)
    add(normal, slug, HOOK, GREETING, SORT, RED, JOIN, LOOP)
    return slug


def test_an_edge_is_drawn_changed_and_taken_away(normal: Caller, slug: str) -> None:
    made = edge(normal, slug, "hook", "greeting", priority=2)
    assert made.status_code == 201
    assert (made.json["edge_type"], made.json["edge_label"], made.json["condition_value"]) == ("direct", "", None)
    address = f"/workflows/{slug}/edges/{made.json['id']}/"
    assert normal.get(address).json == made.json

    changed = normal.patch(address, {"target_node_id": "sort", "source_port": "body"})

    assert (changed.json["target_node_id"], changed.json["source_port"], changed.json["priority"]) == (
        "sort",
        "body",
        2,
    )
    assert normal.get(f"/workflows/{slug}/edges/").json == [changed.json]
    assert normal.delete(address).status_code == 204
    assert normal.get(address).status_code == 404
    assert normal.get(f"/workflows/{slug}/edges/").json == []


def test_an_edge_that_could_carry_nothing_is_refused_by_field(normal: Caller, slug: str) -> None:
    refused = [
        (edge(normal, slug, "hook", "greting"), "target_node_id", "Did you mean 'greeting'?"),
        (edge(normal, slug, "sort", "sort"), "target_node_id", "to itself"),
        (
            edge(normal, slug, "sort", "red", edge_type="conditional", condition_value="x"),
            "condition_value",
            "route 'x'",
        ),
        (edge(normal, slug, "hook", "sort", edge_label="wire"), "edge_label", "Must be one of"),
        (edge(normal, slug, "hook", "sort", edge_type="maybe"), "edge_type", "Must be one of"),
        (edge(normal, slug, "hook", "sort", weight=1), "weight", "Unknown field"),
        (edge(normal, slug, "hook", "sort", priority=True), "priority", "Not a valid integer"),
    ]

    for answer, field, says in refused:
        assert answer.status_code == 422
        assert says in " ".join(answer.json["errors"][field])
    assert normal.get(f"/workflows/{slug}/edges/").json == []


def test_edges_that_fit_are_drawn(normal: Caller, slug: str) -> None:
    drawn = [
        edge(normal, slug, "hook", "sort", source_port="payload", target_port="input"),
        edge(normal, slug, "sort", "red", edge_type="conditional", condition_value="vip"),
        edge(
            normal, slug, "sort", "join", edge_type="conditional", condition_mapping={"default": "join", "vip": "red"}
        ),
        edge(normal, slug, "greeting", "join", source_port="error"),
        edge(normal, slug, "each", "greeting", edge_label="loop_body"),
        edge(normal, slug, "greeting", "each", edge_label="loop_return"),
        edge(normal, slug, "each", "join"),
    ]

    assert {answer.status_code for answer in drawn} == {201}


def test_the_same_edge_is_not_drawn_twice(normal: Caller, slug: str) -> None:
    first = edge(normal, slug, "hook", "sort").json
    other = edge(normal, slug, "hook", "sort", source_port="body").json

    again = edge(normal, slug, "hook", "sort", priority=9)

    assert (again.status_code, again.json["code"]) == (409, "already_exists")
    assert normal.patch(f"/workflows/{slug}/edges/{other['id']}/", {"source_port": None}).status_code == 409
    assert normal.patch(f"/workflows/{slug}/edges/{first['id']}/", {"priority": 9}).json["priority"] == 9


def test_a_circle_outside_of_a_loop_is_refused_by_its_nodes(normal: Caller) -> None:
    slug = shop(normal)

    answer = edge(normal, slug, "join", "sort")

    assert answer.status_code == 422
    said = answer.json["errors"]["target_node_id"][0]
    assert "join" in said
    assert "sort" in said
    assert "circle" in said
    red = next(found for found in normal.get(f"/workflows/{slug}/edges/").json if found["source_node_id"] == "red")
    assert normal.patch(f"/workflows/{slug}/edges/{red['id']}/", {"target_node_id": "sort"}).status_code == 422


def test_edges_of_other_workflows_are_not_there(normal: Caller, stranger: Caller) -> None:
    slug, other = shop(normal), workflow(normal, "Other")
    number = normal.get(f"/workflows/{slug}/edges/").json[0]["id"]

    assert normal.get(f"/workflows/{other}/edges/{number}/").status_code == 404
    assert normal.delete(f"/workflows/{other}/edges/{number}/").status_code == 404
    assert stranger.delete(f"/workflows/{slug}/edges/{number}/").status_code == 404
    for odd in (0, -1, 2**31, 2**70, "x"):
        assert normal.delete(f"/workflows/{slug}/edges/{odd}/").status_code == 404


def test_a_stale_writer_of_an_edge_is_told(normal: Caller) -> None:
    slug = shop(normal)
    address = f"/workflows/{slug}/edges/{normal.get(f'/workflows/{slug}/edges/').json[0]['id']}/"
    tag = normal.get(address).headers["ETag"]
    normal.patch(address, {"priority": 1})

    assert normal.patch(address, {"priority": 2}, headers={"If-Match": tag}).status_code == 412
    assert normal.delete(address, headers={"If-Match": tag}).status_code == 412
    assert normal.get(address).json["priority"] == 1
