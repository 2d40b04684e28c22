# SPDX-License-Identifier: Apache-2.0
"""A ``multipart/form-data`` body with one file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from secrets import token_hex
from typing import IO

from airflow_provider_losant.api.http.decoding import CHUNK_SIZE


class MultipartStream:
    """
    A form with one Jupyter file, read in pieces while it is sent; requests would read it into memory.

    :param file: The open file, at its beginning.
    :param name: The file name to send.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        boundary = token_hex(16)
        quoted = name.replace("\\", "\\\\").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="jupyterFile"; filename="{quoted}"\r\n'
            "Content-Type: application/x-ipynb+json\r\n\r\n"
        )
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._parts = (BytesIO(head.encode()), file, BytesIO(f"\r\n--{boundary}--\r\n".encode()))
        self._size = sum(part.seek(0, os.SEEK_END) for part in self._parts)
        for part in self._parts:
            part.seek(0)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(partial(self.read, CHUNK_SIZE), b"")

    def read(self, size: int) -> bytes:
        """Return up to ``size`` of the next bytes."""
        return next(filter(None, (part.read(size) for part in self._parts)), b"")
