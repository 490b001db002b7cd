"""Undoing the compression of an answer, never further than its limit."""

import zlib

from pipelit.errors import UpstreamError, UpstreamRefused

ANY_HEADER = zlib.MAX_WBITS | 32
"""zlib's way of saying: gzip or zlib, look at the first bytes."""


class Decoder:
    """Collects a body of at most `max_bytes`, before and after decoding.

    `gzip` and `deflate` are undone, because we asked for them; a body in any other encoding stays as it came.
    """

    def __init__(self, encoding: str, max_bytes: int) -> None:
        self._is_compressed = encoding.strip().lower() in ("gzip", "x-gzip", "deflate")
        self._max_bytes = max_bytes
        self._received = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._inflater = zlib.decompressobj(ANY_HEADER)

    def feed(self, chunk: bytes) -> None:
        """Take what was received. Raises `UpstreamRefused` beyond the limit, `UpstreamError` if it is damaged."""
        is_first = self._received == 0
        self._received += len(chunk)
        if self._received > self._max_bytes:
            raise self._too_large()
        if not self._is_compressed:
            self._keep(chunk)
            return
        try:
            self._inflate(chunk, is_first=is_first)
        except zlib.error as error:
            raise UpstreamError(f"The answer's compression is damaged: {error}.") from error

    def finish(self) -> bytes:
        """The whole body. Raises `UpstreamError` if it was cut short."""
        if self._is_compressed and self._received and not self._inflater.eof:
            raise UpstreamError("The answer's compression is damaged: it ends too early.")
        return b"".join(self._parts)

    def _inflate(self, chunk: bytes, *, is_first: bool) -> None:
        if is_first and not _has_header(chunk):
            # Some servers mean raw deflate by "deflate".
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        left = chunk
        while left:
            if self._inflater.eof:
                self._inflater = zlib.decompressobj(ANY_HEADER)
            self._keep(self._inflater.decompress(left, self._max_bytes - self._size + 1))
            left = self._inflater.unconsumed_tail or self._inflater.unused_data

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._max_bytes:
            raise self._too_large()
        self._parts.append(part)

    def _too_large(self) -> UpstreamRefused:
        return UpstreamRefused(f"The answer is larger than {self._max_bytes} bytes.")


def _has_header(chunk: bytes) -> bool:
    return chunk[:2] == b"\x1f\x8b"[: len(chunk)] or (
        chunk[0] & 0x0F == zlib.DEFLATED and (len(chunk) < 2 or (chunk[0] << 8 | chunk[1]) % 31 == 0)
    )
