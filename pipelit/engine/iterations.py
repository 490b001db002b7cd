"""What a transition writes about loops: items as their turn comes, results as they come in, nothing of what is over."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from pipelit.engine import blobs
from pipelit.engine.core.codec import dump_json
from pipelit.engine.core.state import Progress, State, StepId, StepState, StepStatus
from pipelit.engine.keys import bytes_field, item_field, report_field, result_field, total_field
from pipelit.engine.pages import PAGE, Pages, begun, is_complete, page_count, page_range
from pipelit.engine.store import Store, Transaction, batched

log = structlog.get_logger(__name__)


class Iterations:
    """The loops' part of one transition."""

    def __init__(self, store: Store, write: Transaction, blob_bytes: int) -> None:
        self.store = store
        self.write = write
        self.blob_bytes = blob_bytes
        self.results: dict[StepId, dict[int, str]] = {}
        self.over: set[StepId] = set()

    def begin(self, loop: StepId, total: int, first_page: tuple[str, ...], report: str) -> None:
        """Put the first items of a loop in place."""
        fields = {item_field(loop, index): item for index, item in enumerate(first_page)}
        self.write.set_fields(self.write.keys.data, {**fields, total_field(loop): total, report_field(loop): report})

    def collect(self, loop: StepId, index: int, result: str) -> None:
        """Keep the result of an iteration, and forget its item."""
        data = self.write.keys.data
        self.results.setdefault(loop, {})[index] = result
        self.write.call("HSET", data, result_field(loop, index), result)
        self.write.call("HINCRBY", data, bytes_field(loop), len(result) + 1)
        self.write.delete_fields(data, [item_field(loop, index)])

    def follow(self, before: State, after: State) -> None:
        """Put the next pages of items in place where a loop has come to them, and remove what loops leave that go."""
        for loop, known, progress in _moved(before, after):
            then = _progress_in(before, loop)
            for number in begun(then.following if then else 0, progress.following):
                pages = Pages.of_items(self.write.execution_id, loop, known.attempt)
                items = blobs.patiently(partial(pages.load, number))
                fields = {item_field(loop, number * PAGE + offset): item for offset, item in enumerate(items)}
                self.write.set_fields(self.write.keys.data, fields)
        for loop, was in before.steps.items():
            if was.status is StepStatus.ITERATING and loop not in after.steps and loop not in self.over:
                self.give_up(loop)

    def give_up(self, loop: StepId) -> None:
        """Remove everything that is kept of a loop, wherever it stands."""
        data = self.write.keys.data
        self.over.add(loop)
        self.write.delete_fields(data, [report_field(loop), total_field(loop), bytes_field(loop)])
        self.write.call("PRUNE", data, f"item:{loop}:", f"result:{loop}:")

    def finish(self, loop: StepId, attempt: int, total: int) -> tuple[str, str | None]:
        """The outputs of a loop whose iterations are all folded, and what it reported when it began."""
        data, execution_id = self.write.keys.data, self.write.execution_id
        self.over.add(loop)
        stored = self.store.values(execution_id, [report_field(loop), bytes_field(loop)])
        mine = self.results.get(loop, {})
        size = int(stored[bytes_field(loop)] or 0) + sum(len(result) + 1 for result in mine.values())
        pages = Pages.of_results(execution_id, loop, attempt)
        live = dict(self._live(loop, total, mine))
        if size <= self.blob_bytes:
            moved = [number for number in range(page_count(total)) if number not in live]
            live |= blobs.patiently(lambda: pages.load_some(moved))
            results = "[" + ",".join(result for number in sorted(live) for result in live[number]) + "]"
        else:
            undecided = {index // PAGE for index in mine}
            blob_id = blobs.patiently(lambda: pages.close(total, live, undecided))
            results = dump_json({blobs.MARK: blob_id, "bytes": size + 1})
        for number in live:
            self.write.delete_fields(data, [result_field(loop, index) for index in page_range(number, total)])
        self.write.delete_fields(data, [total_field(loop), bytes_field(loop), report_field(loop)])
        return f'{{"results":{results}}}', stored[report_field(loop)]

    def _live(self, loop: StepId, total: int, mine: Mapping[int, str]) -> Iterator[tuple[int, list[str]]]:
        """The pages of results that are still in the working state, with the results of this transition."""
        execution_id = self.write.execution_id
        there = {index // PAGE for index in mine}
        for some in batched(range(page_count(total)), PAGE):
            heads = {result_field(loop, number * PAGE): number for number in some}
            there |= {heads[name] for name, found in self.store.values(execution_id, list(heads)).items() if found}
        for number in sorted(there):
            others = {result_field(loop, index): index for index in page_range(number, total) if index not in mine}
            found = {others[name]: text for name, text in self.store.values(execution_id, list(others)).items()}
            entries = [mine.get(index) or found[index] for index in page_range(number, total)]
            # One that has just been moved to SQL is read from there.
            if None not in entries:
                yield number, [entry for entry in entries if entry is not None]

    def settled_pages(self, after: State) -> Iterator[Callable[[], None]]:
        """What is to be done once the transition is committed: full pages of results move to SQL."""
        for loop, indexes in self.results.items():
            known = after.steps.get(loop)
            if known is None or known.progress is None or after.status.is_final:
                continue
            for number in {index // PAGE for index in indexes}:
                if is_complete(number, known.progress):
                    yield self._mover(loop, known, number, known.progress.total)

    def _mover(self, loop: StepId, known: StepState, number: int, total: int) -> Callable[[], None]:
        execution_id, store = self.write.execution_id, self.store

        def move() -> None:
            fields = [result_field(loop, index) for index in page_range(number, total)]
            try:
                entries = [text for text in store.values(execution_id, fields).values() if text is not None]
                if len(entries) == len(fields):
                    Pages.of_results(execution_id, loop, known.attempt).keep(number, entries)
                    store.remove(execution_id, fields)
            except (SQLAlchemyError, RedisError):
                # They stay where they are until the loop ends, and the transition is committed all the same.
                log.warning("results_not_moved", execution_id=execution_id, loop=str(loop), exc_info=True)

        return move


def _moved(before: State, after: State) -> Iterator[tuple[StepId, StepState, Progress]]:
    """The loops that are under way and that the transition has touched."""
    for step, known in after.steps.items():
        if known.progress is not None and before.steps.get(step) is not known:
            yield step, known, known.progress


def _progress_in(state: State, loop: StepId) -> Progress | None:
    known = state.steps.get(loop)
    return known.progress if known is not None else None
