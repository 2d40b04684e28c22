# SPDX-License-Identifier: Apache-2.0
"""HTTP as Losant speaks it: how a request is parsed and how a response is sent."""

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
TOKEN_PARAMETERS: Final = ("access_token", "jwt")
"""QueryParameter parameters that may carry the token."""


class Refused(Exception):
    """
    Raised by a handler to refuse a request.

    :param status: the HTTP status.
    :param kind: the ``type`` of Losant's error.
    :param message: the ``message`` of Losant's error.
    """

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """Status and body of a response."""

    status: int
    content: bytes
    content_type: str = "application/json; charset=utf-8"

    @classmethod
    def from_json(cls, status: int, body: Any) -> Response:
        """Make a response with a JSON body."""
        return cls(status=status, content=json.dumps(body).encode())

    @classmethod
    def from_error(cls, refused: Refused) -> Response:
        """Make an error response with Losant's ``type`` and ``message``."""
        return cls.from_json(refused.status, {"type": refused.kind, "message": refused.message})

    def to_web(self, request: web.Request, **headers: str) -> web.Response:
        """Convert to aiohttp's response, compressed if the client accepts gzip."""
        content, sent = self.content, {**HEADERS, "Content-Type": self.content_type, **headers}
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            content, sent["Content-Encoding"] = gzip.compress(content, 1), "gzip"
        return web.Response(status=self.status, body=content, headers=sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedBody:
    """
    The body of a request.

    :param json: the parsed JSON; ``None`` if there is none.
    :param file: name and content of an uploaded file.
    :param error: why the body could not be parsed.
    :param is_not_a_file: whether the form has a plain value where the file should be.
    """

    json: Any = None
    file: tuple[str, bytes] | None = None
    error: str | None = None
    is_not_a_file: bool = False


async def parse_body(request: web.Request, operation: Operation | None) -> ParsedBody:
    """Parse JSON or a form with a file; as in Losant, any other content counts as no body."""
    if operation is not None and operation.file is not None and request.content_type == "multipart/form-data":
        try:
            part = (await request.post()).get(operation.file)
        except (ValueError, HttpProcessingError) as error:
            return ParsedBody(error=f"Invalid multipart body: {error}")
        if isinstance(part, web.FileField):
            return ParsedBody(file=(part.filename, part.file.read()))
        return ParsedBody(is_not_a_file=part is not None)
    content = await request.read()
    if request.method in ("GET", "HEAD") or not content or request.content_type != "application/json":
        return ParsedBody()
    try:
        return ParsedBody(json=json.loads(content))
    except (ValueError, RecursionError) as error:
        return ParsedBody(error=f"Invalid JSON: {error}")


def log_entry(request: web.Request, operation: Operation | None, body: Any, now: float) -> Request:
    """Make the entry of the request log, without the token."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    authorized = headers.pop("authorization", None) is not None or any(
        name in request.query for name in TOKEN_PARAMETERS
    )
    return Request(
        operation=operation.name if operation else "",
        method=request.method,
        path=request.path,
        query={name: value for name, value in request.query.items() if name not in TOKEN_PARAMETERS},
        headers=headers,
        authorized=authorized,
        body=body,
        at=now,
    )


def reset(request: web.Request) -> None:
    """Close the connection with a TCP reset."""
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    # With SO_LINGER at zero seconds the kernel sends RST instead of FIN.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
