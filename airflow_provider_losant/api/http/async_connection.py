# SPDX-License-Identifier: Apache-2.0
"""
Connections for ``aiohttp`` that know how far a request has got, and that decide what may be sent again.

aiohttp's tracing can observe the same, but takes a twentieth of the CPU time of a poll.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import aiohttp

if TYPE_CHECKING:
    from aiohttp.connector import Connection


@dataclass(slots=True)
class Transmission:
    """
    One request on its way.

    :ivar is_begun: Whether it has got a connection, on which aiohttp then sends all of it at once.
    :ivar is_reused: Whether that connection has served another request before.
    """

    is_begun: bool = False
    is_reused: bool = False

    @classmethod
    def begin(cls) -> Transmission:
        """Observe the next request of this asyncio task."""
        transmission = cls()
        _current.set(transmission)
        return transmission


_current: ContextVar[Transmission] = ContextVar("_current")


class Connector(aiohttp.TCPConnector):
    """
    A pool that observes which connection a request gets, and decides whether aiohttp may repeat the request.

    When a connection breaks, aiohttp silently sends requests with idempotent methods again. This allows it
    only for a GET over a reused connection, which the server may have closed in the meantime: a second DELETE
    after a lost response would get 404, and all other retries are the flow's decision.

    Each request needs a :class:`Transmission`, begun before it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used: WeakSet[asyncio.BaseTransport] = WeakSet()

    async def connect(self, req: aiohttp.ClientRequest, *args: Any, **kwargs: Any) -> Connection:
        """Return a connection for a request, or refuse to send it again."""
        transmission = _current.get()
        if transmission.is_begun and not (req.method == "GET" and transmission.is_reused):
            raise aiohttp.ClientConnectionError
        connection = await super().connect(req, *args, **kwargs)
        if connection.transport is not None:  # pragma: no branch - it may have been lost at once
            transmission.is_reused = connection.transport in self._used
            self._used.add(connection.transport)
        transmission.is_begun = True
        return connection
