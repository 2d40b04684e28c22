# SPDX-License-Identifier: Apache-2.0
"""Run flows on an event loop, in the triggerer. The only module that imports ``aiohttp``."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from airflow_provider_losant.api.endpoints import Call
from airflow_provider_losant.api.errors import LosantError, TlsError, TransportError, Unauthorized
from airflow_provider_losant.api.flows.steps import Log, LogLine, Sleep, Tail
from airflow_provider_losant.api.http.decoding import ACCEPT_ENCODING, GzipDecoder, ResponseBody
from airflow_provider_losant.api.http.response import is_success, parse_response

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import Flow, Step
    from airflow_provider_losant.api.settings import Settings

T = TypeVar("T")
Refresh = Callable[[], Awaitable["Settings"]]

MAX_CONCURRENCY = 32
"""Concurrent requests to Losant; further requests wait for a slot."""
KEEP_ALIVE = 75.0
"""Seconds for which an idle connection is kept: longer than the usual poll interval."""


class AsyncClient:
    """
    Runs flows over one connection pool.

    :param settings: Host, token, timeout and TLS.
    :param refresh: Reads the settings again after Losant returned 401: the token may have been rotated.
    """

    def __init__(self, settings: Settings, refresh: Refresh | None = None) -> None:
        self.settings = settings
        self._refresh = refresh
        self._refreshing = asyncio.Lock()
        self._tls = _tls(settings)
        # A request waits for a slot and not for a connection, because its timeout includes the latter.
        self._slots = asyncio.Semaphore(MAX_CONCURRENCY)
        # Without trust_env, because a .netrc entry would replace the token.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit_per_host=MAX_CONCURRENCY, keepalive_timeout=KEEP_ALIVE),
            timeout=aiohttp.ClientTimeout(total=settings.timeout),
            headers={"User-Agent": settings.user_agent},
            auto_decompress=False,
            trace_configs=[_replay_tracing()],
        )

    async def close(self) -> None:
        """Close the pool."""
        await self._session.close()

    async def run(self, flow: Flow[T], log: Log) -> T:
        """
        Run a flow to its end, and return its result.

        :param log: Gets the flow's log lines: a logger's ``log``.
        :raises LosantError: an error that the flow does not handle.
        """
        advance: Callable[[], Step] = partial(next, flow)
        while True:
            try:
                step = advance()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # a generator's value is untyped at run time
            try:
                result: Any = None
                match step:
                    case Call():
                        result = await self._call(step)
                    case Sleep():
                        await asyncio.sleep(step.seconds)
                    case LogLine():
                        log(step.level, "%s", step.text)
                    case Tail():
                        result = await self._tail(step)
                advance = partial(flow.send, result)
            except LosantError as error:
                advance = partial(flow.throw, error)

    async def _call(self, call: Call[T]) -> T:
        token = self.settings.token
        try:
            return await self._send(call)
        except Unauthorized:
            if not await self._has_other_token(token):
                raise
            return await self._send(call)

    async def _has_other_token(self, rejected: str) -> bool:
        """Return whether there is another token than the rejected one; concurrent calls read it once."""
        async with self._refreshing:
            if self.settings.token == rejected and self._refresh is not None:
                refreshed = await self._refresh()
                self.settings, self._tls = refreshed, _tls(refreshed)
            return self.settings.token != rejected

    async def _send(self, call: Call[T]) -> T:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._slots)
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
                    headers={"Authorization": f"Bearer {self.settings.token}", **_JSON},
                    # Otherwise aiohttp labels an empty body application/octet-stream.
                    skip_auto_headers=() if call.json is not None or form else ("Content-Type",),
                    allow_redirects=False,
                    ssl=self._tls,
                    proxy=_proxy(self.settings.base_url),
                    trace_request_ctx=_ReplayGuard(is_read=call.method == "GET"),
                ) as response:
                    body = ResponseBody(call.operation, response.headers)
                    async for received in response.content.iter_any():
                        body.feed(received)
            except _ERRORS as error:
                raise to_transport_error(call.operation, self.settings.base_url, error) from None
        with _gc_paused():
            return parse_response(call, response.status, response.headers, body.finish())

    async def _tail(self, tail: Tail) -> str:
        try:
            async with self._session.get(
                # Encoding it again would invalidate the signature.
                URL(tail.url, encoded=True),
                headers={"Accept-Encoding": "identity", "Range": f"bytes=-{tail.limit}"},
                ssl=self._tls,
                proxy=_proxy(tail.url),
                trace_request_ctx=_ReplayGuard(is_read=True),
            ) as response:
                body, decoder = b"", GzipDecoder(response.headers)
                async for received in response.content.iter_any():
                    for piece in decoder.feed(received):
                        # A host that ignores Range sends the whole file, which may exceed the memory.
                        body = (body + piece)[-tail.limit :]
        except _ERRORS as error:
            raise TransportError(f"the file host did not respond ({type(error).__name__})") from None
        if not is_success(response.status):
            raise TransportError(f"the file host returned {response.status}")
        decoder.finish()
        return body.decode(errors="replace")


@dataclass(slots=True)
class _ReplayGuard:
    """
    Restricts aiohttp's hidden retry of one request.

    When a connection breaks, aiohttp silently sends requests with idempotent methods again. This allows it
    only for a GET over a reused connection, which the server may have closed in the meantime: a second DELETE
    after a lost response would get 404, and all other retries are the flow's decision.
    """

    is_read: bool
    is_reused: bool = False
    times: int = 0

    async def reuse(self) -> None:
        self.is_reused = True

    async def redirect(self) -> None:
        self.times = 0

    async def send(self) -> None:
        self.times += 1
        if self.times > 1 and not (self.is_read and self.is_reused):
            raise aiohttp.ClientConnectionError


def _replay_tracing() -> aiohttp.TraceConfig:
    tracing = aiohttp.TraceConfig()
    tracing.on_connection_reuseconn.append(lambda _, context, __: context.trace_request_ctx.reuse())
    tracing.on_request_redirect.append(lambda _, context, __: context.trace_request_ctx.redirect())
    tracing.on_request_headers_sent.append(lambda _, context, __: context.trace_request_ctx.send())
    return tracing


_Key = tuple[asyncio.AbstractEventLoop, "Settings"]


@dataclass(slots=True)
class _Entry:
    key: _Key
    client: AsyncClient
    users: int = 0


_shared: dict[_Key, _Entry] = {}


class SharedClient:
    """
    The client that an event loop shares for the same settings; use it as ``async with``.

    The last user closes the client.

    :param settings: As for :class:`AsyncClient`.
    :param refresh: As for :class:`AsyncClient`.
    """

    __slots__ = ("_key", "_refresh")

    def __init__(self, settings: Settings, refresh: Refresh | None = None) -> None:
        self._key: _Key = (asyncio.get_running_loop(), settings)
        self._refresh = refresh

    async def __aenter__(self) -> AsyncClient:
        shared = _shared.get(self._key)
        if shared is None:
            client = AsyncClient(self._key[1], self._refresh)
            shared = _shared[self._key] = _Entry(self._key, client)
        shared.users += 1
        # Thousands may share it, so none of them keeps settings of its own.
        self._key, self._refresh = shared.key, None
        return shared.client

    async def __aexit__(self, *exc: object) -> None:
        shared = _shared[self._key]
        shared.users -= 1
        if not shared.users:
            del _shared[self._key]
            await shared.client.close()


@contextmanager
def _gc_paused() -> Iterator[None]:
    """
    Pause garbage collection while a response is parsed.

    The objects of a long log are freed a moment later, but until then Python 3.11 would move them into the
    oldest generation, which soon triggers a full collection that blocks the event loop.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


_JSON = {"Accept": "application/json", "Accept-Encoding": ACCEPT_ENCODING}

_ERRORS = (aiohttp.ClientError, TimeoutError, OSError, ValueError)
_NOT_SENT = aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.ClientHttpProxyError


def _tls(settings: Settings) -> bool | ssl.SSLContext:
    """Build the TLS context once for all requests: aiohttp reuses a connection only with the same context."""
    ca_bundle = settings.ca_bundle
    if isinstance(ca_bundle, bool):
        return ca_bundle
    file, folder = (None, ca_bundle) if Path(ca_bundle).is_dir() else (ca_bundle, None)
    try:
        return ssl.create_default_context(cafile=file, capath=folder)
    except OSError:
        raise TlsError(f"{settings.base_url}: verify is not a readable CA bundle") from None


def _proxy(url: str) -> str | None:
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def to_transport_error(operation: str, base_url: str, error: Exception) -> TransportError:
    """Describe an error of aiohttp's without the request, because its headers contain the token."""
    where = f"{operation} at {base_url}"
    if isinstance(error, aiohttp.ClientConnectorSSLError | aiohttp.ClientConnectorCertificateError):
        return TlsError(f"{where}: the server's certificate was not accepted ({error})")
    if isinstance(error, _NOT_SENT):
        return TransportError(f"{where}: no connection ({error})", was_sent=False)
    if isinstance(error, ValueError):  # aiohttp's InvalidURL is a ValueError
        return TransportError(f"{where}: not a valid URL", was_sent=False)
    if isinstance(error, TimeoutError):
        return TransportError(f"{where}: no response in time")
    return TransportError(f"{where}: the connection broke ({type(error).__name__})")
