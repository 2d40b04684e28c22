# SPDX-License-Identifier: Apache-2.0
"""Response bodies are decoded completely, and a small body never expands without limit."""

from __future__ import annotations

import gc
import gzip
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_losant.api.errors import ProtocolError, ResponseTooLarge
from airflow_provider_losant.api.http import decoding
from airflow_provider_losant.api.http.decoding import GzipDecoder, ResponseBody
from airflow_provider_losant.api.http.response import gc_paused
from tests.support.factories import few_examples

GZIP = {"content-encoding": "gzip"}


def in_chunks(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


def decode(content: bytes, headers: dict[str, str], size: int = 1_000) -> bytes:
    body = ResponseBody("notebook.logs", headers)
    for chunk in in_chunks(content, size):
        body.feed(chunk)
    return body.finish()


@few_examples
@given(st.binary(max_size=2_000), st.integers(1, 300), st.integers(1, 3))
def test_a_compressed_body_is_decoded_completely_whatever_the_chunks(
    content: bytes, size: int, parts: int
) -> None:
    assert decode(content, {}, size) == content
    assert decode(gzip.compress(content) * parts, GZIP, size) == content * parts


@pytest.mark.parametrize(
    "length", [decoding.CHUNK_SIZE - 1, decoding.CHUNK_SIZE, decoding.CHUNK_SIZE + 1, 3 * decoding.CHUNK_SIZE]
)
def test_data_beyond_one_chunk_is_not_lost(length: int) -> None:
    for size in (1, 100_000):
        assert decode(gzip.compress(b"0" * length), GZIP, size) == b"0" * length


def test_a_gzip_bomb_is_decoded_in_chunks() -> None:
    decoder = GzipDecoder(GZIP)

    sizes = [len(chunk) for chunk in decoder.feed(gzip.compress(bytes(20 * decoding.CHUNK_SIZE)))]

    assert max(sizes) <= decoding.CHUNK_SIZE
    assert sum(sizes) == 20 * decoding.CHUNK_SIZE


def test_an_endless_response_is_aborted_at_the_limit() -> None:
    body = ResponseBody("notebook.logs", GZIP)
    bomb = zlib.compressobj(wbits=31)

    for _ in range(decoding.MAX_BODY // 1024**2 - 1):
        body.feed(bomb.compress(bytes(1024**2)))
    with pytest.raises(
        ResponseTooLarge, match=r"the response to notebook\.logs has more than 67,108,864 bytes"
    ):
        body.feed(bomb.compress(bytes(3 * 1024**2)))


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"not packed", GZIP),
        (gzip.compress(b"whole")[:-3], GZIP),
        (gzip.compress(b"whole") + b"rest", GZIP),
        (b"anything", {"content-encoding": "br"}),
        (b"anything", {"content-encoding": "gzip, gzip"}),
    ],
    ids=["not compressed", "truncated", "with trailing data", "another encoding", "compressed twice"],
)
def test_an_undecodable_body_is_a_losant_error(content: bytes, headers: dict[str, str]) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(content, headers)

    assert caught.value.is_transient
    assert caught.value.may_have_taken_effect


@pytest.mark.parametrize("encoding", ["", "identity", "GZIP", " gzip ", "x-gzip"])
def test_all_names_of_content_encodings_are_known(encoding: str) -> None:
    content: Any = b"content"
    body = gzip.compress(content) if "gzip" in encoding.lower() else content

    assert decode(body, {"content-encoding": encoding}) == content


@pytest.mark.parametrize("was_enabled", [True, False])
def test_after_a_response_garbage_collection_is_as_it_was_before(*, was_enabled: bool) -> None:
    try:
        (gc.enable if was_enabled else gc.disable)()
        with gc_paused():
            assert not gc.isenabled()
        assert gc.isenabled() is was_enabled
    finally:
        gc.enable()
