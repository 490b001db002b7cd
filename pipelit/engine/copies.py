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
        self.contents: dict[str, bytes] = {}

    def rewritten(self, text: str | None) -> str | None:
        """The text with its references led to the copies, which are made. Raises `WrongState` if one leads nowhere."""
        if text is None or f'"{blobs.MARK}"' not in text:
            return text
        for blob_id in set(REFERENCE.findall(text)):
            self._copy(blob_id)
        return REFERENCE.sub(lambda found: f'"{blobs.MARK}":"{self._named(found[1])}"', text)

    def _copy(self, blob_id: str) -> None:
        if self._named(blob_id) in self.contents:
            return
        content = self._loaded(blob_id)
        if not content.startswith(blobs.IN_PAGES):
            self.contents[self._named(blob_id)] = content
            return
        pages = blobs.pages_of(content)
        name = self._named(blob_id)
        self.contents[name] = blobs.listed(name, len(pages), {})
        for number, page in enumerate(pages):
            text = blobs.unpacked(self._loaded(page))
            self.contents[blobs.page_id(name, number)] = blobs.packed(self.rewritten(text) or "")

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
