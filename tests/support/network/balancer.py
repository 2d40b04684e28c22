# SPDX-License-Identifier: Apache-2.0
"""A load balancer that terminates TLS, forwards requests to one backend, and injects faults."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from airflow_provider_losant.emulator.http.operations import match
from tests.support.network.connection import Connection, Upstream
from tests.support.network.faults import CONNECT, NetworkFault, NetworkFaults
from tests.support.network.messages import Head, Response, read_request, relay_response
from tests.support.network.server import LOOPBACK, Server

_HANDSHAKE_FAILURE: Final = b"\x15\x03\x03\x00\x02\x02\x28"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_BAD_REQUEST: Final = bytes(Response.page(HTTPStatus.BAD_REQUEST))
_ENDLESS: Final = 2**40
"""Bytes of a body that nothing will read to its end."""


@dataclass(slots=True)
class BalancerRequest:
    """
    A request that the load balancer received.

    :param operation: The operation of Losant's API; empty if it is none.
    :param headers: By name in lower case.
    :param body: As it was sent; empty if a fault came before it.
    :param fault: The fault that happened to it.
    :param forwarded: Whether it was sent to the backend.
    """

    operation: str
    method: str
    target: str
    headers: dict[str, str]
    body: bytes = field(default=b"", repr=False)
    fault: NetworkFault | None = None
    forwarded: bool = False


class LoadBalancer(Server):
    """
    Forward requests while the ``with`` block lasts.

    A fault of the backend's own, such as a reset, reaches the client as it is.

    :param backend: Host and port of the server behind it, which speaks plain HTTP.
    :param tls: Serve HTTPS with this context.
    :param clock: Returns the time in seconds, for faults that last for a time.
    """

    def __init__(
        self,
        backend: tuple[str, int],
        tls: ssl.SSLContext | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.backend = backend
        self.requests: list[BalancerRequest] = []
        self.on_arrival: Callable[[str], None] | None = None
        """
        Called for each request with its operation, and for each connection with ``connect``, before a fault
        is looked up for it: what it injects may happen to that very request. It runs in the server's thread.
        """
        self._tls = tls
        self._faults = NetworkFaults(clock)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{LOOPBACK}:{self.port}"

    def inject(
        self,
        operation: str,
        fault: NetworkFault,
        times: int = 1,
        *,
        seconds: float | None = None,
        after: str | None = None,
    ) -> None:
        """
        Inject a fault.

        :param operation: An operation such as ``notebook.logs``; ``*`` means any request, and ``connect`` the
            next connection, before any request is known.
        :param fault: The fault.
        :param times: How often it happens.
        :param seconds: How long it happens instead, from the first matching request or connection on.
        :raises ValueError: if this kind of fault cannot happen to a connection, or to a request.
        """
        self._faults.add(operation, fault, times, seconds, after)

    def clear_faults(self) -> None:
        """Remove all faults that have not happened."""
        self._faults.clear()

    async def serve(self, connection: Connection) -> None:
        if not await self._connect(connection, self._take_fault(CONNECT)):
            return
        upstream = Upstream()
        try:
            while await self._exchange(connection, upstream):
                pass
        finally:
            upstream.close()

    def _take_fault(self, operation: str) -> NetworkFault | None:
        if self.on_arrival is not None:
            self.on_arrival(operation)
        return self._faults.take(operation)

    async def _connect(self, client: Connection, fault: NetworkFault | None) -> bool:
        """Do the handshake, if there is TLS; returns whether requests can follow."""
        if fault is not None and fault.kind == "close":
            await client.close_after_reading()
            return False
        if fault is None or fault.kind == "drip_handshake":
            if self._tls is not None:
                await client.start_tls(self._tls, drip=None if fault is None else fault.pace)
            return True
        first = await (client.read() if self._tls is None else client.read_client_hello())
        match fault.kind:
            case "reset":
                client.reset()
            case "hang" if first:
                await _hang(client, fault.seconds)
            case "alert_handshake" if self._tls is not None:
                await client.write(_HANDSHAKE_FAILURE)
            case "plain_http":
                await client.write(_BAD_REQUEST)
            case _:
                pass
        if fault.kind != "reset":
            await client.close_after_reading()
        return False

    async def _exchange(self, client: Connection, upstream: Upstream) -> bool:
        """Read a request and respond to it; returns whether another one may follow."""
        head = await Head.read(client)
        if head is None:
            return False
        received = _received(head)
        received.fault = self._take_fault(received.operation)
        self.requests.append(received)
        if received.fault is not None and received.fault.kind == "close_after_head":
            client.close()
            return False
        request = await read_request(client, head)
        received.body = request.body
        backend = None
        if received.fault is None or received.fault.is_processed_first:
            with contextlib.suppress(ConnectionRefusedError):
                backend = await upstream.connect(self.backend)
                await backend.write(bytes(request))
                received.forwarded = True
        if received.fault is not None:
            page = Response.page(received.fault.status)
            response = await Response.read(backend, request.method) if backend else page
            return await _inject(client, response, received.fault) and not head.is_last
        if backend is None:
            await client.write(bytes(Response.page(HTTPStatus.BAD_GATEWAY)))
            return not head.is_last
        return await relay_response(backend, client, request.method) and not head.is_last


def _received(head: Head) -> BalancerRequest:
    method, target = head.first_line.split(" ")[:2]
    known = match(method, target.partition("?")[0])
    return BalancerRequest(
        operation=known[0].name if known else "",
        method=method,
        target=target,
        headers={name.lower(): value for name, value in head.fields},
    )


async def _hang(client: Connection, seconds: float | None) -> None:
    """Wait so long, or until the client leaves."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while await client.read():
                pass


async def _inject(client: Connection, response: Response, fault: NetworkFault) -> bool:
    """Let a fault happen to a response; returns whether another request may follow."""
    if fault.kind == "html":
        await client.write(bytes(Response.page(fault.status)))
    elif fault.kind in _SLOWLY:
        await _SLOWLY[fault.kind](client, response, fault)
    else:
        await _end(client, response, fault)
        return False
    return True


async def _end(client: Connection, response: Response, fault: NetworkFault) -> None:
    """Let a fault happen that ends the connection."""
    head = bytes(response.head)
    match fault.kind:
        case "reset":
            client.reset()
            return
        case "hang":
            await _hang(client, fault.seconds)
        case "alert":
            await client.send_alert()
        case "close_in_head":
            await client.write(head[: len(head) // 2])
        case "close_in_body":
            await client.write(head + response.body[: len(response.body) // 2])
        case "close_after_response":
            await client.write(bytes(response))
        case _:
            pass
    if fault.close_notify:
        await client.announce_end()
    await client.close_after_reading()


# -- slow responses ---------------------------------------------------------------------------------------


async def _continue_forever(client: Connection, response: Response, fault: NetworkFault) -> None:
    for _ in _count(fault.size):
        await client.write(_CONTINUE)
        await asyncio.sleep(fault.pace)
    await client.write(bytes(response))


async def _drip_head(client: Connection, response: Response, fault: NetworkFault) -> None:
    if fault.size is None:
        await _drip(client, f"{response.head.first_line}\r\nX-Padding: ".encode(), fault.pace)
        for _ in _count(None):
            await _drip(client, b"x", fault.pace)
    await _drip_first(client, bytes(response.padded(head=fault.size or 0)), fault)


async def _drip_body(client: Connection, response: Response, fault: NetworkFault) -> None:
    if fault.size is None:
        await client.write(bytes(response.with_length(_ENDLESS).head))
        await _drip(client, response.body, fault.pace)
        for _ in _count(None):
            await _drip(client, b" ", fault.pace)
    padded = response.padded(body=fault.size or 0)
    await client.write(bytes(padded.head))
    await _drip_first(client, padded.body, fault)


async def _drip_first(client: Connection, data: bytes, fault: NetworkFault) -> None:
    await _drip(client, data[: fault.size], fault.pace)
    await client.write(data[fault.size :])


async def _drip(client: Connection, data: bytes, pace: float) -> None:
    for byte in data:
        await client.write(bytes([byte]))
        await asyncio.sleep(pace)


def _count(size: int | None) -> Iterator[int]:
    """Count up to a number, or without end until the client leaves and writing to it fails."""
    count = 0
    while size is None or count < size:
        yield count
        count += 1


_SLOWLY: Final[dict[str, Callable[[Connection, Response, NetworkFault], Awaitable[None]]]] = {
    "continue_forever": _continue_forever,
    "drip_head": _drip_head,
    "drip_body": _drip_body,
}
