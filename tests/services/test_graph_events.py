"""Whoever watches a workflow hears of every change once it is committed, and of none that was refused."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from pipelit.engine import broadcast
from tests.api.shop import GREETING, HOOK, JOIN, SHOP, add, edge, workflow
from tests.support.callers import Caller

END = "all that was said"
News = Callable[[], list[tuple[str, dict[str, Any]]]]


@pytest.fixture
def news(redis_url: str) -> Iterator[News]:
    """What has been said on the channel of the workflow `shop` since the last call."""
    with Redis.from_url(redis_url, decode_responses=True) as client, client.pubsub() as pubsub:
        channel = broadcast.PREFIX + broadcast.workflow_channel("shop")
        pubsub.subscribe(channel)
        assert pubsub.get_message(timeout=5) is not None

        def heard() -> list[tuple[str, dict[str, Any]]]:
            found = []
            client.publish(channel, END)
            while (message := pubsub.get_message(timeout=60)) is not None and message["data"] != END:
                body = json.loads(broadcast.parse(message["data"]).body)
                found.append((body["type"], body["data"]))
            return found

        yield heard


def test_every_change_of_a_node_or_an_edge_is_told_as_the_api_shows_it(normal: Caller, news: News) -> None:
    slug = workflow(normal)
    node = normal.post(f"/workflows/{slug}/nodes/", HOOK).json
    assert news() == [("node_created", node)]

    add(normal, slug, GREETING)
    drawn = edge(normal, slug, "hook", "greeting").json
    assert news()[1:] == [("edge_created", drawn)]

    renamed = normal.patch(f"/workflows/{slug}/nodes/hook/", {"node_id": "start"}).json
    moved = normal.get(f"/workflows/{slug}/edges/{drawn['id']}/").json
    assert news() == [("edge_updated", moved), ("node_updated", renamed)]

    normal.delete(f"/workflows/{slug}/nodes/start/")
    assert news() == [
        ("edge_deleted", {"id": drawn["id"]}),
        ("node_deleted", {"id": node["id"], "node_id": "start"}),
    ]


def test_a_change_of_an_edge_is_told(normal: Caller, news: News) -> None:
    slug = workflow(normal)
    add(normal, slug, HOOK, JOIN)
    drawn = edge(normal, slug, "hook", "join").json
    news()

    changed = normal.patch(f"/workflows/{slug}/edges/{drawn['id']}/", {"priority": 1}).json
    normal.delete(f"/workflows/{slug}/edges/{drawn['id']}/")

    assert news() == [("edge_updated", changed), ("edge_deleted", {"id": drawn["id"]})]


def test_a_new_graph_and_a_new_slug_are_told_on_the_channel_that_is_watched(normal: Caller, news: News) -> None:
    slug = workflow(normal)
    normal.put(f"/workflows/{slug}/graph/", SHOP)
    normal.patch(f"/workflows/{slug}/", {"slug": "store"})

    said = news()

    assert [kind for kind, _ in said] == ["workflow_updated", "workflow_updated"]
    assert (said[0][1]["revision"], said[1][1]["slug"]) == (2, "store")


def test_a_refused_change_is_not_told(normal: Caller, news: News) -> None:
    slug = workflow(normal)
    add(normal, slug, HOOK)
    news()

    assert normal.post(f"/workflows/{slug}/nodes/", HOOK).status_code == 409
    assert edge(normal, slug, "hook", "nowhere").status_code == 422
    assert normal.put(f"/workflows/{slug}/graph/", {"nodes": [HOOK, HOOK], "edges": []}).status_code == 422

    assert news() == []


def test_secrets_are_not_told(normal: Caller, news: News) -> None:
    slug = workflow(normal)
    config = {"path": "orders", "auth": "secret", "secret": "correct horse battery"}
    add(normal, slug, {**HOOK, "config": config})

    assert news()[0][1]["config"]["secret"] == "••••tery"


def test_a_deleted_workflow_says_goodbye(normal: Caller, news: News) -> None:
    normal.delete(f"/workflows/{workflow(normal)}/")

    assert news() == [("workflow_updated", {"slug": "shop", "is_deleted": True})]
