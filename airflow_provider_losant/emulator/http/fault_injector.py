# SPDX-License-Identifier: Apache-2.0
"""Applies an injected fault to a request, on either port."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import cache
from http import HTTPStatus
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from airflow_provider_losant.emulator.http.wire import Refused, Response, reset

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.faults import Fault

HTML: Final = "text/html; charset=utf-8"
PAGE: Final = b"<!DOCTYPE html><html><head><title>Bad Gateway</title></head><body>Bad Gateway</body></html>"
DRIP_CHUNKS: Final = 50
"""Number of chunks in which a ``slow_body`` body is sent."""
SPACES: Final = b" " * 65_536
"""A chunk of an ``endless`` or ``gzip_bomb`` body; JSON parsers ignore leading spaces."""
REQUIRED_FIELDS: Final = frozenset(
    {"id", "applicationId", "notebookId", "notebookExecutionId", "executionId", "jobId", "name", "status"}
    | {"success", "items", "counts", "date", "start", "end"}
)
"""The fields that ``missing_fields`` keeps: without them a response has no meaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultInjector:
    """
    Applies faults.

    :param stopping: set when the emulator stops, which ends every wait of a fault at once.
    """

    stopping: asyncio.Event

    async def apply(
        self, request: web.Request, fault: Fault, respond: Callable[[], Response], rate_limit_type: str = ""
    ) -> web.StreamResponse | None:
        """
        Apply a fault to a request; returns ``None`` when the connection was reset.

        :param respond: processes the request and returns the correct response.
        :param rate_limit_type: the error type of ``rate_limited``.
        """
        early = respond() if fault.is_processed_first else None
        if fault.kind in ("hang", "slow"):
            await self._pause(fault.seconds)
        if fault.kind in ("hang", "reset_before", "reset_after"):
            reset(request)
            return None
        if fault.kind == "gzip_bomb":
            return _gzip_bomb(fault.size)
        if fault.kind == "endless":
            return await _stream(request, Response(status=200, content=b""), self._endless(fault.seconds))
        error = _error_response(fault, rate_limit_type)
        if error is not None:
            return error.to_web(request, **_headers(fault))
        response = early or respond()
        if fault.kind == "slow_body":
            chunks = self._drip(response.content, fault.seconds)
            return await _stream(request, response, chunks, has_length=True)
        return _CHANGES[fault.kind](response).to_web(request)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)

    async def _drip(self, content: bytes, seconds: float) -> AsyncIterator[bytes]:
        size = max(1, -(-len(content) // DRIP_CHUNKS))
        for at in range(0, len(content), size):
            await self._pause(seconds * size / len(content))
            yield content[at : at + size]

    async def _endless(self, seconds: float) -> AsyncIterator[bytes]:
        until = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < until and not self.stopping.is_set():
            yield SPACES
            await asyncio.sleep(0)


async def _stream(
    request: web.Request, response: Response, chunks: AsyncIterator[bytes], *, has_length: bool = False
) -> web.StreamResponse:
    """Send a body chunk by chunk, until the last one or until the client disconnects."""
    stream = web.StreamResponse(status=response.status, headers={"Content-Type": response.content_type})
    if has_length:
        stream.content_length = len(response.content)
    with contextlib.suppress(ConnectionError):
        await stream.prepare(request)
        async for chunk in chunks:
            await stream.write(chunk)
        await stream.write_eof()
    return stream


def _gzip_bomb(size: int) -> web.Response:
    headers = {"Content-Encoding": "gzip"}
    return web.Response(body=_compressed_spaces(size), content_type="application/json", headers=headers)


@cache
def _compressed_spaces(size: int) -> bytes:
    compressor = zlib.compressobj(wbits=31)
    chunks = repeat(SPACES, -(-size // len(SPACES)))
    return b"".join(compressor.compress(chunk) for chunk in chunks) + compressor.flush()


def _error_response(fault: Fault, rate_limit_type: str) -> Response | None:
    """Return the response that replaces the correct one; ``None`` if the fault only changes that one."""
    match fault.kind:
        case "rate_limited":
            return Response.from_error(Refused(429, rate_limit_type, "Too many requests"))
        case "unauthorized":
            return Response.from_error(Refused(401, "Unauthorized", "Invalid access token"))
        case "server_error":
            status = fault.status or HTTPStatus.SERVICE_UNAVAILABLE
            return Response.from_error(Refused(status, "InternalServer", "An internal error occurred"))
        case "html":
            return Response(status=fault.status or HTTPStatus.BAD_GATEWAY, content=PAGE, content_type=HTML)
        case "redirect":
            return Response(status=HTTPStatus.FOUND, content=b"", content_type=HTML)
        case _:
            return None


def _headers(fault: Fault) -> dict[str, str]:
    if fault.kind == "redirect":
        return {"Location": fault.location}
    if fault.kind != "rate_limited" or fault.retry_after is None:
        return {}
    value = fault.retry_after
    return {"Retry-After": value if isinstance(value, str) else f"{value:g}"}


def _change_shape(response: Response) -> Response:
    return replace(response, content=b"[]" if response.content[:1] == b"{" else b"{}")


def _change_objects(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Response], Response]:
    """Return a function that changes every object in a JSON response and leaves any other body."""

    def walk(value: Any) -> Any:
        if isinstance(value, list):
            return [walk(item) for item in value]
        if isinstance(value, dict):
            return change({name: walk(item) for name, item in value.items()})
        return value

    def changed(response: Response) -> Response:
        try:
            return replace(response, content=json.dumps(walk(json.loads(response.content))).encode())
        except ValueError:
            return response

    return changed


_CHANGES: Final[dict[str, Callable[[Response], Response]]] = {
    "slow": lambda response: response,
    "truncated": lambda it: replace(it, content=it.content[: max(1, len(it.content) // 2)]),
    "empty": lambda response: replace(response, content=b""),
    "wrong_content_type": lambda response: replace(response, content_type="text/plain; charset=utf-8"),
    "wrong_shape": _change_shape,
    "extra_fields": _change_objects(lambda it: {**it, "_unknown": {"nested": ["value"]}}),
    "missing_fields": _change_objects(lambda it: {name: it[name] for name in it if name in REQUIRED_FIELDS}),
}
