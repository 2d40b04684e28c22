# SPDX-License-Identifier: Apache-2.0
"""A server that sends exactly the bytes a test wants, right or wrong, and keeps all that it receives."""

from __future__ import annotations

import atexit
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Self

from tests.support.network.authority import CertificateAuthority

StubResponse = bytes | Iterator[bytes] | None
"""Bytes that are sent as they are, or in pieces until the client disconnects; None closes the connection."""


def http(body: Any = b"", status: str = "200 OK", kind: str = "application/json", **headers: str) -> bytes:
    """Return the bytes of an HTTP response."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": kind, "Content-Length": str(len(content))}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + content


class HttpStub:
    """
    Send the same response to every request while the ``with`` block lasts.

    :param response: The bytes of the response, or a function of the request's bytes.
    :param tls: Use TLS with this context.
    :param close_after: Close the connection after each response, as when it breaks off.
    :param greeting: Sent to every client that connects; then the connection is closed.
    """

    def __init__(
        self,
        response: StubResponse | Callable[[bytes], StubResponse],
        tls: ssl.SSLContext | None = None,
        *,
        close_after: bool = False,
        greeting: bytes = b"",
    ) -> None:
        self._response = response
        self._tls = tls
        self._close_after = close_after
        self._greeting = greeting
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self.connections = 0
        self.requests: list[bytes] = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if self._tls else 'http'}://{self.address}"
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for opened in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            opened.close()
        for thread in self._threads:
            thread.join(5)

    def head(self, name: str) -> list[str]:
        """Return the value of a header in every request; empty where it was not sent."""
        heads = [request.partition(b"\r\n\r\n")[0].decode().splitlines() for request in self.requests]
        wanted = f"{name.lower()}: "
        return [
            next((line[len(wanted) :] for line in lines if line.lower().startswith(wanted)), "")
            for lines in heads
        ]

    @property
    def first_lines(self) -> list[str]:
        return [request.partition(b"\r\n")[0].decode() for request in self.requests]

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                self._start(lambda accepted=connection: self._serve(accepted))  # type: ignore[misc]

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            with connection, connection.makefile("rb") as stream:
                if self._greeting:
                    connection.sendall(self._greeting)
                    return
                while request := _read(stream):
                    self.requests.append(request)
                    response = self._response(request) if callable(self._response) else self._response
                    if response is None:
                        return
                    for chunk in [response] if isinstance(response, bytes) else response:
                        connection.sendall(chunk)
                    if self._close_after:
                        return


def _read(stream: Any) -> bytes:
    head = b""
    while (line := stream.readline()) not in {b"", b"\r\n"}:
        head += line
    if not head:
        return b""
    fields = dict(field.lower().split(": ", 1) for field in head.decode().splitlines()[1:])
    return head + b"\r\n" + bytes(stream.read(int(fields.get("content-length", 0))))


@cache
def closed_port() -> int:
    """
    Return a port of this machine at which no server listens, as long as this process runs.

    It is bound, because other tests run at the same time, and one of their servers might get a free one.
    """
    bound = socket.socket()
    atexit.register(bound.close)
    bound.bind(("127.0.0.1", 0))
    return int(bound.getsockname()[1])


def self_signed(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Make a CA; return a server's context with a certificate of it, and the path of the CA bundle."""
    authority = CertificateAuthority(folder)
    return authority.server_context("127.0.0.1"), authority.bundle
