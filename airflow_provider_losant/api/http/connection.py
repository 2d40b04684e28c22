# SPDX-License-Identifier: Apache-2.0
"""
Connections for ``requests`` that know how far a request has got, and that bound the time for a response.

urllib3 has neither: its exceptions do not say whether the request was sent, and its timeout is one for each
read, so that a host may send a byte at a time for ever.
"""

from __future__ import annotations

import http.client
import io
import logging
import queue
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

if TYPE_CHECKING:
    import socket


@dataclass(slots=True)
class Transmission:
    """
    One request on its way.

    :ivar is_begun: Whether its body, or all of a request without one, has begun to be sent.
    """

    is_begun: bool = False


_current: ContextVar[Transmission] = ContextVar("_current")


@contextmanager
def transmission() -> Iterator[Transmission]:
    """Observe the request that is sent in the block, in this thread."""
    token = _current.set(Transmission())
    try:
        yield _current.get()
    finally:
        _current.reset(token)


class _HeadReader(io.RawIOBase):
    """
    Reads from a socket within the socket's timeout, counted once from now on instead of anew for each read.

    It takes the place of the socket for ``http.client``, which reads from ``makefile()``.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw: Any = sock.makefile("rb", buffering=0)
        self._timeout = sock.gettimeout()
        self._until = None if self._timeout is None else time.monotonic() + self._timeout
        self.has_ended = False

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._until is None:  # the body
            return self._raw.readinto(buffer)  # type: ignore[no-any-return]  # a raw file's
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        size: int | None = self._raw.readinto(buffer)
        self._sock.settimeout(self._timeout)
        self.has_ended = size == 0
        return size

    def end_head(self) -> None:
        """From now on, each read may take the socket's timeout."""
        self._until = None

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """
    A response whose head has to come whole, and within the socket's timeout.

    That includes all ``100 Continue`` before it.
    """

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        self._reader = _HeadReader(sock)
        super().__init__(self._reader, *args, **kwargs)  # type: ignore[arg-type]  # it only calls makefile()

    def begin(self) -> None:
        super().begin()
        if self._reader.has_ended:
            # http.client takes what has come for the whole head, and so perhaps nothing for the body.
            raise http.client.RemoteDisconnected("the connection ended within the head of the response")
        self._reader.end_head()


class _Observed(HTTPConnection):
    response_class = _Response
    _has_body = False

    def request(self, method: str, url: str, body: Any = None, *args: Any, **kwargs: Any) -> None:
        self._has_body = body is not None
        super().request(method, url, body, *args, **kwargs)

    def endheaders(self, *args: Any, **kwargs: Any) -> None:
        """Send the request's head; the body follows, if there is one."""
        if self.sock is None:
            self.connect()  # as sending would, but a failure of this is one before the request
        if not self._has_body:
            _begin()
        super().endheaders(*args, **kwargs)
        _begin()


def _begin() -> None:
    if (current := _current.get(None)) is not None:
        current.is_begun = True


class _ObservedTls(_Observed, HTTPSConnection):
    pass


class _Idle:
    """
    The idle connections of a pool, without the lock of urllib3's queue.

    Airflow raises in a signal handler when the time of a task is over. If that happens just after the lock
    was taken, it is never released, and the process waits for it for good when the connection is returned.
    """

    def __init__(self, maxsize: int) -> None:
        self._maxsize = maxsize
        self._connections: deque[Any] = deque()

    def get(self, *_: object, **__: object) -> Any:
        try:
            return self._connections.pop()
        except IndexError:
            raise queue.Empty from None

    def put(self, connection: Any, *_: object, **__: object) -> None:
        if self.qsize() >= self._maxsize:
            raise queue.Full
        self._connections.append(connection)

    def qsize(self) -> int:
        return len(self._connections)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Observed
    QueueCls = _Idle  # type: ignore[assignment]  # it has what a pool calls


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _ObservedTls
    QueueCls = _Idle  # type: ignore[assignment]  # it has what a pool calls


POOLS = {"http": _Pool, "https": _TlsPool}
"""urllib3's ``pool_classes_by_scheme``."""


_signed_hosts: set[str] = set()


def hide_queries(host: str) -> None:
    """Remove from now on the query from what urllib3 logs about requests to a host: it may be a signature."""
    _signed_hosts.add(host)


def _hide_query(record: logging.LogRecord) -> bool:
    args = record.args if isinstance(record.args, tuple) else ()
    if any(host in it for it in args if isinstance(it, str) for host in _signed_hosts):
        record.args = tuple(it.partition("?")[0] if isinstance(it, str) else it for it in args)
    return True


for _name in ("urllib3.connectionpool", "urllib3.connection"):
    logging.getLogger(_name).addFilter(_hide_query)
