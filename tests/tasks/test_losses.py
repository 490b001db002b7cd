"""The server loses all it had under real workers; nobody does anything about it, and everything goes on."""

from pipelit.engine.runtime import engine
from tests.support.crew import Crew
from tests.support.product import wait_until
from tests.tasks.test_processes import END, scene

NAMES = [f"name {index}" for index in range(12)]


def test_everything_goes_on_after_the_server_lost_all_it_had(crew: Crew) -> None:
    with scene() as there:
        crew.start("steps", "system")
        greeting = ("template", {"template": "{{ loop.item }}"})
        loop = ("loop", {"items": NAMES, "concurrency": 1})
        waiting = crew.run({"pause": ("wait", {"seconds": 12}), "end": END_OF_WAIT}, "start -> pause; pause -> end")
        call = there.call(method="POST", idempotency_key=False)
        running = crew.run({"call": call, "end": END}, "start -> call; call -> end")
        wait_until(there.is_asked, "the step runs", or_else=crew.said)
        # The only process for steps is busy, so that this one stands in the queue.
        queued = crew.run({"each": loop, "greet": greeting}, "start -> each; each =body=> greet; greet =return=> each")
        engine().drain_journal()

        engine().redis.flushall()
        wait_until(lambda: engine().store.load(running.execution_id), "it is rebuilt", seconds=60, or_else=crew.said)
        there.opened.set()
        ended = [crew.wait_for(row, seconds=90) for row in (running, queued, waiting)]

    assert [row.final_output for row in ended] == ["done", {"results": NAMES}, "waited"]
    assert crew.attempts(running, "call") == [(1, "success", None)]
    assert len(there.web.asked) == 1


END_OF_WAIT = ("template", {"template": "waited"})
