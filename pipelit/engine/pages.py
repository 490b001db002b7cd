"""A loop's two long lists, page by page: its items until their turn comes, its results until the loop ends.

What a page holds never changes, and its id follows from the loop's attempt and the page's number. So a page may be
written twice, by whoever finds that it should be there, and nobody has to remember where it is.
"""

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipelit.engine import blobs, values
from pipelit.engine.core.codec import dump_json
from pipelit.engine.core.graph import Json
from pipelit.engine.core.state import Progress, StepId
from pipelit.engine.store import batched
from pipelit.errors import OutputTooLarge

PAGE = 100
"""Entries of a page: what of a loop's lists is in the working state is one page of each, and what is open."""

NAMESPACE = uuid.UUID("b6f9cbbd-6a1c-5e0f-9d55-2b7f6c1f3a10")


@dataclass(frozen=True, slots=True)
class Pages:
    """One of the lists of one attempt of a loop."""

    execution_id: str
    name: str

    @classmethod
    def of_items(cls, execution_id: str, loop: StepId, attempt: int) -> "Pages":
        return cls._named(execution_id, f"{loop}:a{attempt}:items")

    @classmethod
    def of_results(cls, execution_id: str, loop: StepId, attempt: int) -> "Pages":
        return cls._named(execution_id, f"{loop}:a{attempt}:results")

    @classmethod
    def _named(cls, execution_id: str, text: str) -> "Pages":
        return cls(execution_id, str(uuid.uuid5(NAMESPACE, f"{execution_id}:{text}")))

    def keep(self, number: int, entries: Sequence[str]) -> None:
        """Write a page; `entries` are JSON texts."""
        blobs.store(self.execution_id, {self._page_id(number): _page(entries)})

    def keep_all(self, entries: Sequence[str]) -> None:
        """Write the whole list, under the name of the list itself."""
        numbered = enumerate(batched(entries, PAGE))
        for some in batched(numbered, blobs.AT_ONCE):
            blobs.store(self.execution_id, {self._page_id(number): _page(page) for number, page in some})
        blobs.store(self.execution_id, {self.name: blobs.listed(self.name, page_count(len(entries)), {})})

    def close(self, total: int, missing: Mapping[int, Sequence[str]], undecided: Collection[int]) -> str:
        """Write the pages that are missing, and what stands for the list; returns the id of that.

        Pages with results that are only being committed are `undecided`: somebody else's commit may be the one that
        counts, so what is written of them has an id that nobody else will find.
        """
        elsewhere = {number: str(uuid.uuid4()) for number in undecided}
        for number, entries in missing.items():
            blobs.store(self.execution_id, {elsewhere.get(number) or self._page_id(number): _page(entries)})
        blob_id = str(uuid.uuid4())
        blobs.store(self.execution_id, {blob_id: blobs.listed(self.name, page_count(total), elsewhere)})
        return blob_id

    def load(self, number: int) -> list[str]:
        """The entries of a page; none if it is not there."""
        return self.load_some([number]).get(number, [])

    def load_some(self, numbers: Iterable[int]) -> dict[int, list[str]]:
        """Those of the pages that are there."""
        by_id = {self._page_id(number): number for number in numbers}
        found: dict[int, list[str]] = {}
        for chunk in batched(by_id, blobs.AT_ONCE):
            contents = blobs.load(self.execution_id, chunk)
            found |= {by_id[each]: blobs.unpacked(content).split("\n") for each, content in contents.items()}
        return found

    def _page_id(self, number: int) -> str:
        return blobs.page_id(self.name, number)


def page_count(total: int) -> int:
    """How many pages a list takes."""
    return -(-total // PAGE)


def page_range(number: int, total: int) -> range:
    """The indexes of a page's entries."""
    return range(number * PAGE, min((number + 1) * PAGE, total))


def begun(before: int, following: int) -> Iterator[int]:
    """The pages that are needed when the next item to start moves on from `before`, the first page excepted."""
    return (index // PAGE for index in range(before, following) if index and index % PAGE == 0)


def is_complete(number: int, progress: Progress) -> bool:
    """Whether every iteration of a page has been folded, when one of them just has.

    Had one not begun, there would be another open in its page: whenever an iteration is folded, the next one starts.
    """
    return not any(index in page_range(number, progress.total) for index in progress.open)


def kept_items(pages: Pages, items: Sequence[Json], *, inline: int, most: int) -> tuple[str, ...]:
    """The first page of a loop's items as JSON texts; a list of more than one page is written to SQL, all of it.

    An item larger than `inline` bytes is kept by reference. Raises `OutputInvalid` for what is not JSON, and
    `OutputTooLarge` for more than `most` bytes.
    """
    texts: list[str] = []
    large: dict[str, bytes] = {}
    size = 0
    try:
        for item in items:
            text = dump_json(item)
            size += len(text)
            if size > most:
                raise OutputTooLarge(f"items: the list has more than {most} bytes of JSON (PIPELIT_OUTPUT_BYTES).")
            if len(text) > inline:
                large[blob_id := str(uuid.uuid4())] = blobs.packed(text)
                text = dump_json({blobs.MARK: blob_id, "bytes": len(text)})
            texts.append(text)
    except (TypeError, ValueError, RecursionError):
        values.encode_outputs({"items": list(items)})
        raise
    for some in batched(large.items(), blobs.AT_ONCE):
        blobs.store(pages.execution_id, dict(some))
    if len(texts) > PAGE:
        pages.keep_all(texts)
    return tuple(texts[:PAGE])


def _page(entries: Sequence[str]) -> bytes:
    return blobs.packed("\n".join(entries))
