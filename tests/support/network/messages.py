# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 messages as they pass through a proxy or a load balancer."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Self

from tests.support.network.connection import Connection, ConnectionEnded

_PAGE: Final = (
    "<html>\r\n<head><title>{0}</title></head>\r\n"
    "<body>\r\n<center><h1>{0}</h1></center>\r\n</body>\r\n</html>\r\n"
)


@dataclass(frozen=True, slots=True)
class Head:
    """
    The head of a request or a response.

    :param first_line: The request line or the status line.
    :param fields: Names and values of the headers, as they were sent.
    """

    first_line: str
    fields: tuple[tuple[str, str], ...] = ()

    @classmethod
    async def read(cls, connection: Connection) -> Self | None:
        """Read a head; ``None`` if the connection ended before it."""
        read = await connection.read_until(b"\r\n\r\n")
        if not read:
            return None
        first_line, *lines = read.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        parts = (line.partition(":") for line in lines)
        return cls(first_line, tuple((name, value.strip()) for name, _, value in parts))

    def __bytes__(self) -> bytes:
        lines = [self.first_line, *(f"{name}: {value}" for name, value in self.fields)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def get(self, name: str) -> str:
        """Return the value of a header; empty if it was not sent."""
        return next((value for key, value in self.fields if key.lower() == name.lower()), "")

    def without(self, *names: str) -> tuple[tuple[str, str], ...]:
        """Return the headers except these."""
        return tuple((name, value) for name, value in self.fields if name.lower() not in names)

    @property
    def status(self) -> int:
        """The status of a response."""
        return int(self.first_line.split(" ", 2)[1])

    @property
    def is_last(self) -> bool:
        """Whether the connection ends after this message."""
        is_old = "HTTP/1.0" in self.first_line
        return "close" in self.get("connection").lower() or is_old

    def has_body_in_response_to(self, method: str) -> bool:
        bodiless = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
        return method != "HEAD" and self.status not in bodiless

    @property
    def has_length(self) -> bool:
        return self.is_chunked or bool(self.get("content-length"))

    @property
    def is_chunked(self) -> bool:
        return "chunked" in self.get("transfer-encoding").lower()


@dataclass(frozen=True, slots=True)
class Request:
    """A complete request."""

    head: Head
    body: bytes = b""

    def __bytes__(self) -> bytes:
        return bytes(self.head) + self.body

    @property
    def method(self) -> str:
        return self.head.first_line.partition(" ")[0]

    @property
    def target(self) -> str:
        return self.head.first_line.split(" ")[1]


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response; the body is not chunked."""

    head: Head
    body: bytes = b""

    @classmethod
    def page(cls, status: int, **headers: str) -> Self:
        """Return an error page, as gateways make it, with these headers in addition."""
        title = f"{status} {_phrase(status)}"
        body = _PAGE.format(title).encode()
        fields = {"Server": "gateway", "Content-Type": "text/html", "Content-Length": str(len(body))}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(Head(f"HTTP/1.1 {title}", tuple(fields.items())), body)

    @classmethod
    async def read(cls, connection: Connection, method: str) -> Self:
        """Read the response to a request with this method."""
        head = await read_final_head(connection)
        body = bytearray()
        if head.has_body_in_response_to(method):
            async with aclosing(read_body(connection, head)) as chunks:
                async for _, content in chunks:
                    body += content
        return cls(head, bytes(body)).with_length(len(body))

    def with_length(self, length: int) -> Self:
        """Return this response with another ``Content-Length``."""
        fields = self.head.without("content-length", "transfer-encoding")
        head = Head(self.head.first_line, (*fields, ("Content-Length", str(length))))
        return type(self)(head, self.body)

    def padded(self, *, head: int = 0, body: int = 0) -> Self:
        """Return this response with a head and a body of at least so many bytes."""
        body_padding = max(0, body - len(self.body))
        padded = self.with_length(len(self.body) + body_padding) if body_padding else self
        name = "X-Padding"
        missing = head - len(bytes(padded.head)) - len(f"{name}: \r\n")
        # The padding comes first, so that what follows it ends the head.
        fields = ((name, "x" * max(0, missing)), *padded.head.fields) if missing > 0 else padded.head.fields
        return type(self)(Head(padded.head.first_line, fields), self.body + b" " * body_padding)

    def __bytes__(self) -> bytes:
        return bytes(self.head) + self.body


async def read_request(connection: Connection, head: Head) -> Request:
    """Read the body of a request."""
    body = bytearray()
    if head.has_length:
        async with aclosing(read_body(connection, head)) as chunks:
            async for raw, _ in chunks:
                body += raw
    return Request(head, bytes(body))


async def read_final_head(connection: Connection) -> Head:
    """Read the head of a response, after those of all interim responses."""
    while True:
        head = await Head.read(connection)
        if head is None:
            raise ConnectionEnded("the connection ended before a response")
        if head.status >= HTTPStatus.OK:
            return head


async def read_body(connection: Connection, head: Head) -> AsyncGenerator[tuple[bytes, bytes], None]:
    """Yield a body as it comes in: each time the bytes that were sent, and the content in them."""
    if head.is_chunked:
        line = await connection.read_line()
        while size := int(line.partition(b";")[0], 16):
            content = await connection.read_exactly(size)
            yield line + content + await connection.read_exactly(2), content
            line = await connection.read_line()
        while line.strip():
            yield line, b""
            line = await connection.read_line()
        yield line, b""
    elif head.get("content-length"):
        missing = int(head.get("content-length"))
        while missing:
            content = await connection.read(missing)
            if not content:
                raise ConnectionEnded("the connection ended in a body")
            missing -= len(content)
            yield content, content
    else:
        while content := await connection.read():
            yield content, content


async def relay_response(source: Connection, target: Connection, method: str) -> bool:
    """
    Relay the response to a request with this method, byte for byte, as it comes in.

    :return: Whether both connections can be used again.
    """
    head = await read_final_head(source)
    await target.write(bytes(head))
    if not head.has_body_in_response_to(method):
        return not head.is_last
    async with aclosing(read_body(source, head)) as chunks:
        async for raw, _ in chunks:
            await target.write(raw)
    return head.has_length and not head.is_last


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
