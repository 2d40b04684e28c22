# SPDX-License-Identifier: Apache-2.0
"""Carry flows out on an event loop: what the triggerer uses. The only module that imports ``aiohttp``."""

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
"""Requests to Losant that are under way at once; the others wait for their turn."""
KEEP_ALIVE = 75.0
"""Seconds an idle connection is kept: longer than looks are usually apart."""


class AsyncClient:
    """
    Carries out flows over one pool of connections.

    :param settings: Where and how.
    :param renew: Reads the settings again, after Losant refused the token: it may have been rotated.
    """

    def __init__(self, settings: Settings, refresh: Refresh | None = None) -> None:
        self.settings = settings
        self._refresh = refresh
        self._refreshing = asyncio.Lock()
        self._tls = _tls(settings)
        # A request waits for its turn here and not for a connection, which its timeout would count.
        self._slots = asyncio.Semaphore(MAX_CONCURRENCY)
        # Without trust_env, as it would put a .netrc entry in the place of our token.
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
        Carry a flow out to its end.

        :param log: Where notes go: a logger's ``log``.
        :raises LosantError: what the flow does not handle.
        """
        advance: Callable[[], Step] = partial(next, flow)
        while True:
            try:
                step = advance()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]  # a generator's value is untyped at run time
            try:
                advance = partial(flow.send, await self._do(step, log))
            except LosantError as error:
                advance = partial(flow.throw, error)

    async def _do(self, step: Step, log: Log) -> Any:
        match step:
            case Sleep():
                return await asyncio.sleep(step.seconds)
            case LogLine():
                return log(step.level, "%s", step.text)
            case Tail():
                return await self._tail(step)
            case Call():
                return await self._call(step)

    async def _call(self, call: Call[T]) -> T:
        token = self.settings.token
        try:
            return await self._send(call)
        except Unauthorized:
            if not await self._has_other_token(token):
                raise
            return await self._send(call)

    async def _has_other_token(self, refused: str) -> bool:
        """Tell whether there is a newer token than the refused one; of many who ask at once, one reads."""
        async with self._refreshing:
            if self.settings.token == refused and self._refresh is not None:
                refreshed = await self._refresh()
                self.settings, self._tls = refreshed, _tls(refreshed)
            return self.settings.token != refused

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
                    # Or it would call no body an application/octet-stream.
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
                # Encoded once more, the signature in it would not match any longer.
                URL(tail.url, encoded=True),
                headers={"Accept-Encoding": "identity", "Range": f"bytes=-{tail.limit}"},
                ssl=self._tls,
                proxy=_proxy(tail.url),
                trace_request_ctx=_ReplayGuard(is_read=True),
            ) as response:
                body, decoder = b"", GzipDecoder(response.headers)
                async for received in response.content.iter_any():
                    for piece in decoder.feed(received):
                        # A host that ignores Range sends all of it, which may be more than there is memory.
                        body = (body + piece)[-tail.limit :]
        except _ERRORS as error:
            raise TransportError(f"the file's host did not answer ({type(error).__name__})") from None
        if not is_success(response.status):
            raise TransportError(f"the file's host answered {response.status}")
        decoder.finish()
        return body.decode(errors="replace")


@dataclass(slots=True)
class _ReplayGuard:
    """
    One request on its way.

    When a connection breaks, aiohttp sends a second time, unseen, what HTTP takes for harmless. It is to do
    so only with a question over a connection that was kept, and may have been closed meanwhile: a delete
    whose answer got lost would find nothing, and all else is for the flow to decide.
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
    Lends the one client that an event loop has for some settings; use it as ``async with``.

    The client is closed when nobody has it any longer.

    :param settings: Where and how.
    :param renew: As for :class:`AsyncClient`.
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
        # Thousands may borrow it, so none of them keeps what one of them has.
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
    Keep Python from collecting garbage in the midst of reading an answer.

    What a long log is read into is gone again a moment later, but Python 3.11 would by then have counted it
    among what stays, and soon gone through everything there is, for which it stops the event loop.
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
    """Make the context once for all requests: a connection is used again only under the same one."""
    ca_bundle = settings.ca_bundle
    if isinstance(ca_bundle, bool):
        return ca_bundle
    file, folder = (None, ca_bundle) if Path(ca_bundle).is_dir() else (ca_bundle, None)
    try:
        return ssl.create_default_context(cafile=file, capath=folder)
    except OSError:
        raise TlsError(f"{settings.base_url}: verify names no readable bundle of certificates") from None


def _proxy(url: str) -> str | None:
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def to_transport_error(operation: str, base_url: str, error: Exception) -> TransportError:
    """Tell what happened without the request, whose headers hold the token."""
    where = f"{operation} at {base_url}"
    if isinstance(error, aiohttp.ClientConnectorSSLError | aiohttp.ClientConnectorCertificateError):
        return TlsError(f"{where}: the server's certificate was not accepted ({error})")
    if isinstance(error, _NOT_SENT):
        return TransportError(f"{where}: no connection ({error})", was_sent=False)
    if isinstance(error, ValueError):  # aiohttp's InvalidURL is one
        return TransportError(f"{where}: not an address", was_sent=False)
    if isinstance(error, TimeoutError):
        return TransportError(f"{where}: no answer in time")
    return TransportError(f"{where}: the connection broke ({type(error).__name__})")
