# SPDX-License-Identifier: Apache-2.0
"""HTTP as Losant speaks it: what can be read from a request, and how an answer goes back."""

from __future__ import annotations

import gzip
import json
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.http import HttpProcessingError

from airflow_provider_losant.emulator.requestlog import Request

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.http.operations import Operation

HEADERS: Final = {"Server": "Losant API", "Cache-Control": "no-cache, no-store, must-revalidate"}
SECRETS: Final = ("access_token", "jwt")


class Refused(Exception):
    """Carries the error answer to a request that cannot be granted."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back to the client."""

    status: int
    content: bytes
    content_type: str = "application/json; charset=utf-8"

    @classmethod
    def of(cls, status: int, body: Any) -> Answer:
        """Answer with JSON."""
        return cls(status=status, content=json.dumps(body).encode())

    @classmethod
    def refusing(cls, refused: Refused) -> Answer:
        """Answer with Losant's envelope for errors."""
        return cls.of(refused.status, {"type": refused.kind, "message": refused.message})

    def send(self, request: web.Request, **headers: str) -> web.Response:
        """Put the answer on the wire, compressed for those who ask for it."""
        content, sent = self.content, {**HEADERS, "Content-Type": self.content_type, **headers}
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            content, sent["Content-Encoding"] = gzip.compress(content, 1), "gzip"
        return web.Response(status=self.status, body=content, headers=sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A request as far as it could be read."""

    body: Any = None
    file: tuple[str, bytes] | None = None
    unreadable: str | None = None
    not_a_file: bool = False


async def read(request: web.Request, operation: Operation | None) -> Read:
    """Read the body of a request: JSON, a form with a file, or nothing that Losant would look at."""
    if operation is not None and operation.file is not None and request.content_type == "multipart/form-data":
        try:
            part = (await request.post()).get(operation.file)
        except (ValueError, HttpProcessingError) as error:
            return Read(unreadable=f"Invalid multipart body: {error}")
        if isinstance(part, web.FileField):
            return Read(file=(part.filename, part.file.read()))
        return Read(not_a_file=part is not None)
    content = await request.read()
    if request.method in ("GET", "HEAD") or not content or request.content_type != "application/json":
        return Read()
    try:
        return Read(body=json.loads(content))
    except (ValueError, RecursionError) as error:
        return Read(unreadable=f"Invalid JSON: {error}")


def note(request: web.Request, operation: Operation | None, body: Any, now: float) -> Request:
    """Describe a request for the log, without its token."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    authorized = headers.pop("authorization", None) is not None or any(
        name in request.query for name in SECRETS
    )
    return Request(
        operation=operation.name if operation else "",
        method=request.method,
        path=request.path,
        query={name: value for name, value in request.query.items() if name not in SECRETS},
        headers=headers,
        authorized=authorized,
        body=body,
        at=now,
    )


def reset(request: web.Request) -> None:
    """Cut the connection with a TCP reset."""
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    # Lingering for zero seconds makes the kernel send RST instead of an orderly end.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
