"""The hub hears everything it is asked to, through every outage of the server."""

import threading
from collections.abc import Iterator

import pytest
from redis import Redis

from pipelit import clock
from pipelit.api.live import Hub
from pipelit.engine import broadcast
from pipelit.extensions import connect_redis
from tests.live.conftest import Server, wait_until


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with connect_redis(redis_url) as client:
        yield client


@pytest.fixture
def hub(redis: Redis) -> Iterator[Hub]:
    hub = Hub(redis, pause=0.05)
    yield hub
    hub.stop()


def tell(redis: Redis, channel: str, text: str) -> None:
    broadcast.publish(redis, channel, "said", {"text": text}, clock.now())


def test_a_listener_misses_nothing_from_the_first_line_of_its_block_on(hub: Hub, redis: Redis) -> None:
    for number in range(50):
        with hub.listen(f"execution:{number}") as listener:
            tell(redis, f"execution:{number}", "done")

            heard = listener.next(5)

            assert heard is not None
            assert heard[0] == f"execution:{number}"
            assert '"done"' in heard[1].body


def test_a_reply_is_heard_by_the_one_who_awaits_it(hub: Hub, redis: Redis) -> None:
    with hub.await_reply("one") as one, hub.await_reply("two") as two:
        for execution_id in ("nobody's", "two", "one"):
            body = broadcast.event_body("execution_completed", {"execution_id": execution_id}, clock.now())
            assert redis.publish(hub.address, "\n" + body) == 1

        heard = [listener.next(5) for listener in (one, two)]

        assert [event and event[0] for event in heard] == ["execution:one", "execution:two"]
        assert (one.next(0), two.next(0)) == (None, None)


def test_after_an_outage_replies_arrive_again(server: Server) -> None:
    redis = connect_redis(server.settings.redis_url)
    hub = Hub(redis, pause=0.05)
    with hub.await_reply("one") as listener:
        server.kill()
        server.start()
        wait_until(lambda: redis.pubsub_numsub(hub.address) == [(hub.address, 1)])

        redis.publish(hub.address, "\n" + broadcast.event_body("end", {"execution_id": "one"}, clock.now()))

        assert listener.next(5) is not None
    hub.stop()
    redis.close()


def test_a_listener_that_hears_nothing_is_told_so_in_time(hub: Hub, redis: Redis) -> None:
    with hub.listen("execution:quiet") as listener:
        tell(redis, "execution:other", "not for us")
        assert listener.next(0.1) is None
        assert listener.next(-1) is None


def test_listeners_of_one_channel_come_and_go_without_each_other_noticing(hub: Hub, redis: Redis) -> None:
    failures: list[int] = []

    def wait(number: int) -> None:
        for _ in range(20):
            with hub.listen("execution:shared", f"execution:{number}") as listener:
                tell(redis, f"execution:{number}", "done")
                if listener.next(5) is None:
                    failures.append(number)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    wait_until(lambda: redis.pubsub_channels(f"{broadcast.PREFIX}execution:*") == [])


def test_after_an_outage_everything_is_heard_again(server: Server) -> None:
    redis = connect_redis(server.settings.redis_url)
    hub = Hub(redis, pause=0.05)
    with hub.listen("execution:1") as listener:
        server.kill()
        server.start()
        channel = f"{broadcast.PREFIX}execution:1"
        wait_until(lambda: redis.pubsub_numsub(channel) == [(channel, 1)])

        tell(redis, "execution:1", "back")

        heard = listener.next(5)
    assert heard is not None
    hub.stop()
    redis.close()


def test_without_a_server_a_block_runs_and_hears_nothing(server: Server) -> None:
    redis = connect_redis(server.settings.redis_url)
    hub = Hub(redis, pause=0.05)
    server.kill()

    with hub.listen("execution:1") as listener, hub.await_reply("1") as replies:
        assert (listener.next(0.1), replies.next(0.1)) == (None, None)

    hub.stop()
    redis.close()
    server.start()
