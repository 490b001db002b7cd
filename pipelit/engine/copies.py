"""Blobs of one execution copied for another, which may open only its own."""

import uuid
from collections.abc import Mapping

from pipelit.engine import blobs
from pipelit.engine.orphans import REFERENCE
from pipelit.errors import WrongState
from pipelit.extensions import db


class Copies:
    """The blobs that texts of one execution refer to, under the names they have in another.

    `lists` are names that lists of pages are to have there; everything else gets a name that follows from its own.
    """

    def __init__(self, original: str, copy: str, lists: Mapping[str, str]) -> None:
        self.original = original
        self.copy = copy
        self.lists = lists
        self._contents: dict[str, bytes] = {}
        self._made: set[str] = set()

    def take(self) -> dict[str, bytes]:
        """The copies that were made since the last time, by their names."""
        taken, self._contents = self._contents, {}
        return taken

    def rewritten(self, text: str | None) -> str | None:
        """The text with its references led to the copies, which are made. Raises `WrongState` if one leads nowhere."""
        if text is None or f'"{blobs.MARK}"' not in text:
            return text
        for blob_id in set(REFERENCE.findall(text)):
            self._copy(blob_id)
        return REFERENCE.sub(lambda found: f'"{blobs.MARK}":"{self._named(found[1])}"', text)

    def _copy(self, blob_id: str) -> None:
        name = self._named(blob_id)
        if name in self._made:
            return
        content = self._loaded(blob_id)
        self._made.add(name)
        if not content.startswith(blobs.IN_PAGES):
            self._contents[name] = content
            return
        pages = blobs.pages_of(content)
        self._contents[name] = blobs.listed(name, len(pages), {})
        for number, page in enumerate(pages):
            text = blobs.unpacked(self._loaded(page))
            self._contents[blobs.page_id(name, number)] = blobs.packed(self.rewritten(text) or "")

    def _loaded(self, blob_id: str) -> bytes:
        content = blobs.contents(db.session.connection(), self.original, [blob_id]).get(blob_id)
        if content is None:
            raise WrongState(
                f"A large value of the execution {self.original} is not stored any more, so its steps cannot be "
                "reused; start a new execution."
            )
        return content

    def _named(self, blob_id: str) -> str:
        return self.lists.get(blob_id) or str(uuid.uuid5(uuid.UUID(self.copy), blob_id))
