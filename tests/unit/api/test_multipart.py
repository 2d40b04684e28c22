# SPDX-License-Identifier: Apache-2.0
"""The form with which a notebook file is uploaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO

import pytest

from airflow_provider_losant.api.http.decoding import CHUNK_SIZE
from airflow_provider_losant.api.http.multipart import MultipartStream

CONTENT = b"x" * (2 * CHUNK_SIZE + 1)


def form(name: str = "report.ipynb") -> MultipartStream:
    return MultipartStream(BytesIO(CONTENT), name)


def read(one: MultipartStream) -> list[bytes]:
    return list(iter(partial(one.read, CHUNK_SIZE), b""))


@pytest.mark.parametrize("pieces_of", [read, list], ids=["read", "iterated"])
def test_a_form_is_sent_in_pieces_whichever_way_a_library_takes_them(
    pieces_of: Callable[[MultipartStream], list[bytes]],
) -> None:
    one = form()

    pieces = pieces_of(one)

    sent, boundary = b"".join(pieces), one.content_type.partition("=")[2].encode()
    assert max(map(len, pieces)) <= CHUNK_SIZE
    assert len(sent) == len(one)
    assert sent.startswith(b"--" + boundary + b"\r\n")
    assert sent.endswith(b"\r\n\r\n" + CONTENT + b"\r\n--" + boundary + b"--\r\n")


@pytest.mark.parametrize(
    ("name", "quoted"), [('a"b', b"a%22b"), ("a\r\nb", b"a%0D%0Ab"), ("a\\b", b"a\\\\b"), ("ü", "ü".encode())]
)
def test_no_file_name_can_end_its_field(name: str, quoted: bytes) -> None:
    head = b"".join(form(name)).partition(b"\r\n\r\n")[0]

    assert head.splitlines()[1].endswith(b'filename="' + quoted + b'"')
