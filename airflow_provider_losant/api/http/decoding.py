# SPDX-License-Identifier: Apache-2.0
"""The body of an answer as it comes in: unpacked piece by piece, and never more than there is room for."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Final

from airflow_provider_losant.api.errors import ProtocolError, ResponseTooLarge

ACCEPT_ENCODING: Final = "gzip"
"""How an answer may be packed: what is asked for, and the one thing that is unpacked."""
MAX_BODY: Final = 64 * 1024**2
"""
Bytes of an answer, unpacked.

It is a log of 1,000 runs, each with the longest template context there can be (32,767 characters) and as
much again for everything else. A busy notebook's log of 10,000 has a tenth of that for each.
"""
CHUNK_SIZE: Final = 256 * 1024
"""Bytes of a body that are in memory at a time where it is not kept."""
_GZIP: Final = 16 + zlib.MAX_WBITS


class GzipDecoder:
    """
    Undoes what a host has packed, so that a few bytes cannot become a flood.

    :param headers: Of the answer; case-insensitive.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        packing = headers.get("content-encoding", "identity").strip().lower() or "identity"
        if packing not in {"identity", ACCEPT_ENCODING, f"x-{ACCEPT_ENCODING}"}:
            raise ProtocolError(f"what came is packed in a way that was not asked for ({packing[:20]})")
        self._packed = zlib.decompressobj(_GZIP) if packing != "identity" else None
        self._is_begun = False

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """Yield what is in these bytes, in pieces."""
        if self._packed is None:
            yield packed
            return
        is_full = False
        while packed or is_full:
            self._is_begun = True
            try:
                piece = self._packed.decompress(packed, CHUNK_SIZE)
            except zlib.error as error:
                raise ProtocolError(f"what came cannot be unpacked ({error})") from None
            packed = self._packed.unconsumed_tail or self._packed.unused_data
            # What did not fit may be waiting inside, though all bytes have been taken in.
            is_full = len(piece) == CHUNK_SIZE
            if self._packed.eof:
                # A file may have been packed in parts, one after the other.
                self._packed, self._is_begun = zlib.decompressobj(_GZIP), False
                is_full = False
            if piece:
                yield piece

    def finish(self) -> None:
        """
        Take in that no more will come.

        :raises ProtocolError: there should be more.
        """
        if self._is_begun:
            raise ProtocolError("what came broke off in the midst of what is packed")


class ResponseBody:
    """
    Gathers an answer.

    :param operation: What was asked, for the error.
    :param headers: Of the answer; case-insensitive.
    """

    def __init__(self, operation: str, headers: Mapping[str, str]) -> None:
        self._operation = operation
        self._decoder = GzipDecoder(headers)
        self._content = bytearray()

    def feed(self, packed: bytes) -> None:
        """
        Take in some more of it.

        :raises ResponseTooLarge: it is more than any answer of Losant's.
        """
        for piece in self._decoder.feed(packed):
            self._content += piece
            if len(self._content) > MAX_BODY:
                raise ResponseTooLarge(f"the answer to {self._operation} has more than {MAX_BODY:,} bytes")

    def finish(self) -> bytes:
        """Return all of it."""
        self._decoder.finish()
        return bytes(self._content)
