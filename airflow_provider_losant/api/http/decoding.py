# SPDX-License-Identifier: Apache-2.0
"""Decode response bodies incrementally, with a limit on memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Final

from airflow_provider_losant.api.errors import ProtocolError, ResponseTooLarge

ACCEPT_ENCODING: Final = "gzip"
"""The only content encoding that is requested and decoded."""
MAX_BODY: Final = 64 * 1024**2
"""
Maximum bytes of a decoded response.

Enough for a log of 1,000 executions, each with the longest possible template context (32,767 characters) and
the same size for all other fields, or for a log of 10,000 executions with a tenth of that each.
"""
CHUNK_SIZE: Final = 256 * 1024
"""Maximum bytes per piece of a body that is streamed."""
_GZIP: Final = 16 + zlib.MAX_WBITS


class GzipDecoder:
    """
    Decodes a body in bounded pieces, so that a gzip bomb cannot fill the memory.

    :param headers: The response's headers; case-insensitive.
    :raises ProtocolError: the content encoding is not supported.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        encoding = headers.get("content-encoding", "identity").strip().lower() or "identity"
        if encoding not in {"identity", ACCEPT_ENCODING, f"x-{ACCEPT_ENCODING}"}:
            raise ProtocolError(f"the response has an unsupported content encoding ({encoding[:20]})")
        self._gzip = zlib.decompressobj(_GZIP) if encoding != "identity" else None
        self._is_incomplete = False

    def feed(self, received: bytes) -> Iterator[bytes]:
        """
        Yield the decoded content of these bytes, in pieces.

        :raises ProtocolError: the bytes are not valid gzip.
        """
        if self._gzip is None:
            yield received
            return
        is_full = False
        while received or is_full:
            self._is_incomplete = True
            try:
                piece = self._gzip.decompress(received, CHUNK_SIZE)
            except zlib.error as error:
                raise ProtocolError(f"the response cannot be decompressed ({error})") from None
            received = self._gzip.unconsumed_tail or self._gzip.unused_data
            # The decompressor may hold more output although it has consumed all input.
            is_full = len(piece) == CHUNK_SIZE
            if self._gzip.eof:
                # A file may consist of several gzip members.
                self._gzip, self._is_incomplete = zlib.decompressobj(_GZIP), False
                is_full = False
            if piece:
                yield piece

    def finish(self) -> None:
        """
        Check that the body is complete.

        :raises ProtocolError: the compressed data is incomplete.
        """
        if self._is_incomplete:
            raise ProtocolError("the compressed response is incomplete")


class ResponseBody:
    """
    Collects the body of a response.

    :param operation: The operation that was called, for the error.
    :param headers: The response's headers; case-insensitive.
    """

    def __init__(self, operation: str, headers: Mapping[str, str]) -> None:
        self._operation = operation
        self._decoder = GzipDecoder(headers)
        self._content = bytearray()

    def feed(self, received: bytes) -> None:
        """
        Add received bytes.

        :raises ResponseTooLarge: the decoded body exceeds :data:`MAX_BODY`.
        """
        for piece in self._decoder.feed(received):
            self._content += piece
            if len(self._content) > MAX_BODY:
                raise ResponseTooLarge(f"the response to {self._operation} has more than {MAX_BODY:,} bytes")

    def finish(self) -> bytes:
        """Return the decoded body."""
        self._decoder.finish()
        return bytes(self._content)
