# SPDX-License-Identifier: Apache-2.0
"""An HTTP proxy: it forwards ``http://`` requests and opens CONNECT tunnels."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urlsplit

from tests.support.network.connection import Connection, Upstream
from tests.support.network.messages import Head, Request, Response, read_request, relay_response
from tests.support.network.server import LOOPBACK, Server

_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_HOP_BY_HOP: Final = ("proxy-authorization", "proxy-connection")
_PORTS: Final = {"http": 80, "https": 443}


class Proxy(Server):
    """
    Forward requests and open tunnels while the ``with`` block lasts.

    It never asks DNS, and connects to this machine only.

    :param names: The addresses of host names; the port in a URL is then ignored.
    :param user: The user that a client must name, with ``password``; by default no user is needed.
    :param refuse: The status with which every request is refused; may be changed at any time.
    :param tls: Clients connect to the proxy itself by TLS, with this context.
    """

    def __init__(
        self,
        *,
        names: Mapping[str, tuple[str, int]] | None = None,
        user: str | None = None,
        password: str = "",
        refuse: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        self.names = dict(names or {})
        self.refuse = refuse
        self.requests: list[Head] = []
        """The heads of all requests, CONNECT included."""
        self._user, self._password = user, password
        self._tls = tls

    @property
    def url(self) -> str:
        """The URL of the proxy, with user and password."""
        user = "" if self._user is None else f"{quote(self._user)}:{quote(self._password, safe='')}@"
        return f"{'https' if self._tls else 'http'}://{user}{LOOPBACK}:{self.port}"

    async def serve(self, connection: Connection) -> None:
        if self._tls is not None:
            await connection.start_tls(self._tls)
        upstream = Upstream()
        try:
            while await self._exchange(connection, upstream):
                pass
        except ConnectionResetError:
            upstream.reset()
            raise
        finally:
            upstream.close()

    async def _exchange(self, client: Connection, upstream: Upstream) -> bool:
        """Read a request and do what it wants; returns whether another one may follow."""
        head = await Head.read(client)
        if head is None:
            return False
        self.requests.append(head)
        request = await read_request(client, head)
        refusal = self._refusal(head)
        if refusal is not None:
            await client.write(bytes(refusal))
            return not head.is_last
        try:
            target = await upstream.connect(self._address(request))
        except OSError:
            await client.write(bytes(Response.page(HTTPStatus.BAD_GATEWAY)))
            return not head.is_last
        if request.method == "CONNECT":
            await client.write(_ESTABLISHED)
            await _tunnel(client, target)
            return False
        await target.write(bytes(_in_origin_form(request)))
        return await relay_response(target, client, request.method) and not head.is_last

    def _refusal(self, head: Head) -> Response | None:
        status = self.refuse
        if status is None and self._user is not None:
            credentials = base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
            if head.get("proxy-authorization") != f"Basic {credentials}":
                status = HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
        if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            return Response.page(status, Proxy_Authenticate='Basic realm="proxy"')
        return None if status is None else Response.page(status)

    def _address(self, request: Request) -> tuple[str, int]:
        """
        Return where a request goes.

        :raises OSError: if the name is unknown.
        """
        url = urlsplit(f"//{request.target}" if request.method == "CONNECT" else request.target)
        if url.hostname in self.names:
            return self.names[url.hostname]
        if url.hostname not in {LOOPBACK, "localhost"}:
            raise OSError(f"unknown host: {url.hostname}")
        return LOOPBACK, url.port or _PORTS.get(url.scheme, 443)


def _in_origin_form(request: Request) -> Request:
    """Return the request as a server expects it: with the path only, and without what the proxy needs."""
    method, target, version = request.head.first_line.split(" ")
    url = urlsplit(target)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return Request(Head(f"{method} {path} {version}", request.head.without(*_HOP_BY_HOP)), request.body)


async def _tunnel(client: Connection, target: Connection) -> None:
    """Relay bytes in both directions until both have ended."""
    directions = [asyncio.create_task(_pump(client, target)), asyncio.create_task(_pump(target, client))]
    try:
        await asyncio.gather(*directions)
    finally:
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)


async def _pump(source: Connection, target: Connection) -> None:
    while data := await source.read():
        await target.write(data)
    await target.end()
