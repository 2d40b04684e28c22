# SPDX-License-Identifier: Apache-2.0
"""Carry flows out on an event loop: what the triggerer uses. The only module that imports ``aiohttp``."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from airflow_provider_losant.api.answers import read_answer
from airflow_provider_losant.api.calls import Call
from airflow_provider_losant.api.errors import LosantError, TlsError, TransportError, Unauthorized
from airflow_provider_losant.api.steps import Log, Note, Sleep, Tail

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows import Flow, Step
    from airflow_provider_losant.api.settings import Settings

T = TypeVar("T")


class AsyncClient:
    """
    Carries out flows over one pool of connections; use it as ``async with``.

    :param settings: Where and how.
    :param log: Where notes go: a logger's ``log``.
    :param renew: Reads the settings again, after Losant refused the token: it may have been rotated.
    """

    def __init__(
        self,
        settings: Settings,
        log: Log,
        renew: Callable[[], Awaitable[Settings]] | None = None,
    ) -> None:
        self.settings = settings
        self._log = log
        self._renew = renew
        self._tls = _tls(settings)
        # Without trust_env, as it would put a .netrc entry in the place of our token.
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=settings.timeout),
            headers={"Accept": "application/json", "User-Agent": settings.user_agent},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    async def run(self, flow: Flow[T]) -> T:
        """
        Carry a flow out to its end.

        :raises LosantError: what the flow does not handle.
        """
        advance: Callable[[], Step] = partial(next, flow)
        while True:
            try:
                step = advance()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # a generator's value is untyped at run time
            try:
                advance = partial(flow.send, await self._do(step))
            except LosantError as error:
                advance = partial(flow.throw, error)

    async def _do(self, step: Step) -> Any:
        match step:
            case Sleep():
                return await asyncio.sleep(step.seconds)
            case Note():
                return self._log(step.level, "%s", step.text)
            case Tail():
                return await self._tail(step)
            case Call():
                return await self._call(step)

    async def _call(self, call: Call[T]) -> T:
        try:
            return await self._send(call)
        except Unauthorized:
            if self._renew is None:
                raise
            renewed = await self._renew()
            if renewed.token == self.settings.token:
                raise
            self.settings, self._tls = renewed, _tls(renewed)
            return await self._send(call)

    async def _send(self, call: Call[T]) -> T:
        with ExitStack() as stack:
            form = None
            if call.upload is not None:
                form = aiohttp.FormData()
                file = stack.enter_context(await asyncio.to_thread(call.upload.open, "rb"))
                form.add_field(
                    "jupyterFile", file, filename=call.upload.name, content_type="application/x-ipynb+json"
                )
            try:
                async with self._session.request(
                    call.method,
                    self.settings.base_url + call.path,
                    params=dict(call.query),
                    json=call.json,
                    data=form,
                    headers={"Authorization": f"Bearer {self.settings.token}"},
                    # Or it would call no body an application/octet-stream.
                    skip_auto_headers=() if call.json is not None or form else ("Content-Type",),
                    allow_redirects=False,
                    ssl=self._tls,
                    proxy=_proxy(self.settings.base_url),
                ) as response:
                    body = await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise _wire_error(call.operation, self.settings.base_url, error) from None
        return read_answer(call, response.status, response.headers, body)

    async def _tail(self, tail: Tail) -> str:
        try:
            async with self._session.get(
                # Encoded once more, the signature in it would not match any longer.
                URL(tail.url, encoded=True),
                headers={"Range": f"bytes=-{tail.limit}"},
                ssl=self._tls,
                proxy=_proxy(tail.url),
            ) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TransportError(f"the file's host did not answer ({type(error).__name__})") from None
        if not response.ok:
            raise TransportError(f"the file's host answered {response.status}")
        return body[-tail.limit :].decode(errors="replace")


_NOT_SENT = aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.ClientHttpProxyError


def _tls(settings: Settings) -> bool | ssl.SSLContext:
    """Make the context once for all requests: a connection is used again only under the same one."""
    if isinstance(settings.verify, bool):
        return settings.verify
    try:
        return ssl.create_default_context(cafile=settings.verify)
    except OSError:
        raise TlsError(f"{settings.base_url}: verify names no readable bundle of certificates") from None


def _proxy(url: str) -> str | None:
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _wire_error(operation: str, base_url: str, error: Exception) -> TransportError:
    """Tell what happened without the request, whose headers hold the token."""
    where = f"{operation} at {base_url}"
    if isinstance(error, aiohttp.ClientConnectorSSLError | aiohttp.ClientConnectorCertificateError):
        return TlsError(f"{where}: the server's certificate was not accepted ({error})")
    if isinstance(error, _NOT_SENT):
        return TransportError(f"{where}: no connection ({error})", was_sent=False)
    if isinstance(error, aiohttp.InvalidURL):
        return TransportError(f"{where}: not an address", was_sent=False)
    if isinstance(error, TimeoutError):
        return TransportError(f"{where}: no answer in time")
    return TransportError(f"{where}: the connection broke ({type(error).__name__})")
