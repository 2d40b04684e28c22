# SPDX-License-Identifier: Apache-2.0
"""Run flows on an event loop, in the triggerer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from airflow_provider_losant.api.endpoints import Call
from airflow_provider_losant.api.errors import (
    Forbidden,
    InvalidArgument,
    LosantError,
    ResponseError,
    TransportError,
    Unauthorized,
)
from airflow_provider_losant.api.flows.steps import Log, LogLine, Sleep, Tail
from airflow_provider_losant.api.http.async_connection import Connector, Transmission
from airflow_provider_losant.api.http.decoding import ACCEPT_ENCODING, GzipDecoder, ResponseBody
from airflow_provider_losant.api.http.failures import REFRESH_FAILED, describe, transport_error
from airflow_provider_losant.api.http.network import Network, Route
from airflow_provider_losant.api.http.observed import OnRequest, observed_async
from airflow_provider_losant.api.http.response import (
    MAX_REDIRECTS,
    gc_paused,
    has_end,
    is_redirect,
    parse_response,
)

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.steps import Flow, Step
    from airflow_provider_losant.api.settings import Settings

T = TypeVar("T")
Refresh = Callable[[], Awaitable["Settings"]]

MAX_CONCURRENCY = 32
"""Concurrent requests to Losant, and as many cancels; further ones wait for a slot."""
LONG_RESPONSE = 64 * 1024
"""Bytes from which on garbage collection is paused while a response is parsed."""
KEEP_ALIVE = 75.0
"""Seconds for which an idle connection is kept: longer than the usual poll interval."""


class AsyncClient:
    """
    Runs flows over one connection pool.

    :param settings: Host, token, timeout and TLS.
    :param refresh: Reads the settings again after 401 or 403, because the token may have been rotated.
    :param on_request: Gets the outcome of each request.
    """

    def __init__(
        self, settings: Settings, refresh: Refresh | None = None, on_request: OnRequest | None = None
    ) -> None:
        self.settings = settings
        self._refresh = refresh
        self._send_observed = observed_async(self._send, on_request)
        self._reading: asyncio.Future[str | None] | None = None
        self._network = Network(verify=settings.verify)
        self._finding_route: asyncio.Future[Route] | None = None
        # A request waits for a slot and not for a connection, because its timeout includes the latter.
        # Cancels have slots of their own, because polls that hang must not delay them.
        self._slots = asyncio.Semaphore(MAX_CONCURRENCY)
        self._cancel_slots = asyncio.Semaphore(MAX_CONCURRENCY)
        # Without trust_env, because a .netrc entry would replace the token.
        self._session = aiohttp.ClientSession(
            connector=Connector(limit_per_host=2 * MAX_CONCURRENCY, keepalive_timeout=KEEP_ALIVE),
            timeout=aiohttp.ClientTimeout(total=settings.timeout),
            headers={"User-Agent": settings.user_agent},
            cookie_jar=aiohttp.DummyCookieJar(),  # the API needs none, and file hosts get none of it
            auto_decompress=False,
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
                        result = await self._call(step, log)
                    case Sleep():
                        await asyncio.sleep(step.seconds)
                    case LogLine():
                        log(step.level, "%s", step.text)
                    case _:
                        result = await self._tail(step)
                advance = partial(flow.send, result)
            except LosantError as error:
                advance = partial(flow.throw, error)

    async def _call(self, call: Call[T], log: Log) -> T:
        token = self.settings.token
        try:
            return await self._send_observed(call)
        except (Unauthorized, Forbidden) as error:
            if not await self._has_other_token(token, error, log):
                raise
        return await self._send_observed(call)

    async def _has_other_token(self, refused: str, refusal: ResponseError, log: Log) -> bool:
        """Return whether there is another token than the refused one; concurrent calls read it once."""
        if self.settings.token == refused and self._refresh is not None:
            if self._reading is None:
                self._reading = asyncio.ensure_future(self._read_settings(self._refresh))
            problem = await asyncio.shield(self._reading)
            if problem is not None:
                refusal.is_transient = True  # there may be another token
                log(logging.WARNING, REFRESH_FAILED, problem)
        return self.settings.token != refused

    async def _read_settings(self, refresh: Refresh) -> str | None:
        """Replace the settings if they have another token now; return what kept them from being read."""
        try:
            refreshed = await refresh()
        except Exception as problem:  # noqa: BLE001 - whatever a secrets backend raises
            return type(problem).__name__
        finally:
            self._reading = None
        self.use(refreshed)
        return None

    def use(self, settings: Settings) -> None:
        """Use these settings from now on if they have another token, also for requests that were refused."""
        if settings.token != self.settings.token:
            self.settings, self._network = settings, Network(verify=settings.verify)
            self._finding_route = None

    async def _route(self) -> Route:
        """Return how requests reach the API: found once, in a thread, because it reads files."""
        if self._finding_route is None:
            finding = asyncio.to_thread(self._network.route_to, self.settings.base_url)
            self._finding_route = asyncio.ensure_future(finding)
        return await asyncio.shield(self._finding_route)

    async def _send(self, call: Call[T]) -> T:
        route = await self._route()
        async with self._cancel_slots if call.deletes else self._slots:
            if call.upload is None:
                return await self._exchange(call, route)
            with await asyncio.to_thread(call.upload.open, "rb") as file:
                form = aiohttp.FormData()
                form.add_field(
                    "jupyterFile", file, filename=call.upload.name, content_type="application/x-ipynb+json"
                )
                return await self._exchange(call, route, form)

    async def _exchange(self, call: Call[T], route: Route, form: aiohttp.FormData | None = None) -> T:
        has_body = call.json is not None or form is not None
        transmission = Transmission.begin()
        try:
            async with self._session.request(
                call.method,
                self.settings.base_url + call.path,
                params=call.query,
                json=call.json,
                data=form,
                headers={"Authorization": f"Bearer {self.settings.token}", **_JSON},
                # Otherwise aiohttp labels an empty body application/octet-stream, but not of a GET, of which
                # there are thousands.
                skip_auto_headers=None if has_body or call.method == "GET" else ("Content-Type",),
                allow_redirects=False,
                ssl=route.tls or True,
                proxy=route.proxy,
            ) as response:
                body = ResponseBody(call.operation, response.headers)
                async for received in response.content.iter_any():
                    body.feed(received)
        except _ERRORS as error:
            where = f"{call.operation} at {self.settings.base_url}"
            raise transport_error(where, error, is_begun=transmission.is_begun) from None
        content = body.finish()
        # A pause costs more than it saves if the response is short, as most are.
        with gc_paused() if len(content) > LONG_RESPONSE else nullcontext():
            return parse_response(call, response.status, response.headers, content)

    async def _tail(self, tail: Tail) -> str:
        url = tail.url
        try:
            for _ in range(MAX_REDIRECTS):
                async with await self._open_file(url, tail.limit) as response:
                    if not is_redirect(response.status, response.headers):
                        return await _read_tail(response, tail.limit)
                    url = urljoin(url, response.headers["Location"])
        except InvalidArgument:
            raise  # of the route; it is a ValueError too
        except _ERRORS as error:
            raise TransportError(f"the file host did not respond ({describe(error)})") from None
        raise TransportError(f"the file host redirected {MAX_REDIRECTS} times in a row")

    async def _open_file(self, url: str, limit: int) -> aiohttp.ClientResponse:
        """Request the end of a file by its signed URL, without the token."""
        route = await asyncio.to_thread(self._network.route_to, url)
        Transmission.begin()
        return await self._session.get(
            # Encoding it again would invalidate the signature.
            URL(url, encoded=True),
            headers={"Accept-Encoding": "identity", "Range": f"bytes=-{limit}"},
            allow_redirects=False,
            ssl=route.tls or True,
            proxy=route.proxy,
        )


async def _read_tail(response: aiohttp.ClientResponse, limit: int) -> str:
    if not has_end(response.status):
        return ""
    body, decoder = b"", GzipDecoder(response.headers)
    async for received in response.content.iter_any():
        for piece in decoder.feed(received):
            # A host that ignores Range sends the whole file, which may exceed the memory.
            body = (body + piece)[-limit:]
    decoder.finish()
    return body.decode(errors="replace")


_Key = tuple[asyncio.AbstractEventLoop, str, "Settings"]


@dataclass(slots=True)
class _Entry:
    key: _Key
    client: AsyncClient
    users: int = 0


_shared: dict[_Key, _Entry] = {}


class SharedClient:
    """
    The client that an event loop shares for one connection; use it as ``async with``.

    Settings that differ in the token only have the same client, and it uses the token of the latest: after a
    rotation, one notebook would be polled with the old and with the new one. The last user closes the client.

    :param settings: As for :class:`AsyncClient`.
    :param refresh: As for :class:`AsyncClient`.
    :param on_request: As for :class:`AsyncClient`.
    :param name: The connection's name; clients of other connections are not shared, because their tokens may
        be rotated at other times.
    """

    __slots__ = ("_key", "_on_request", "_refresh", "_settings")

    def __init__(
        self,
        settings: Settings,
        refresh: Refresh | None = None,
        on_request: OnRequest | None = None,
        *,
        name: str = "",
    ) -> None:
        self._key: _Key = (asyncio.get_running_loop(), name, replace(settings, token=""))
        self._settings, self._refresh, self._on_request = settings, refresh, on_request

    async def __aenter__(self) -> AsyncClient:
        shared = _shared.get(self._key)
        if shared is None:
            client = AsyncClient(self._settings, self._refresh, self._on_request)
            shared = _shared[self._key] = _Entry(self._key, client)
        shared.client.use(self._settings)
        shared.users += 1
        # Thousands may share it, so none of them keeps settings of its own.
        self._key, self._settings = shared.key, shared.client.settings
        self._refresh = self._on_request = None
        return shared.client

    async def __aexit__(self, *exc: object) -> None:
        shared = _shared[self._key]
        shared.users -= 1
        if not shared.users:
            del _shared[self._key]
            await shared.client.close()


_JSON = {"Accept": "application/json", "Accept-Encoding": ACCEPT_ENCODING}

_ERRORS = (aiohttp.ClientError, TimeoutError, OSError, ValueError)
