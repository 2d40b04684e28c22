# SPDX-License-Identifier: Apache-2.0
"""Letting a request go wrong, on either port, in the way that was ordered."""

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
DROPS: Final = 50
"""Pieces that a ``drip`` comes in."""
BLANK: Final = b" " * 65_536
"""What an answer without end is made of: to JSON it is nothing, and does no harm."""
LASTING: Final = frozenset(
    {"id", "applicationId", "notebookId", "notebookExecutionId", "executionId", "jobId", "name", "status"}
    | {"success", "items", "counts", "date", "start", "end"}
)
"""What an answer of Losant's would be no answer without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoiler:
    """
    Lets requests go wrong.

    :param stopping: set when the emulator stops, which releases every client that is kept waiting.
    """

    stopping: asyncio.Event

    async def spoil(
        self, request: web.Request, fault: Fault, carry_out: Callable[[], Response], rate_limit_type: str = ""
    ) -> web.StreamResponse | None:
        """
        Let a request go wrong; returns ``None`` when the connection was cut.

        :param carry_out: does what is asked, and returns the answer that would be right.
        """
        done = carry_out() if fault.after_effect else None
        if fault.kind in ("hang", "slow"):
            await self._pause(fault.seconds)
        if fault.kind in ("hang", "reset_before", "reset_after"):
            reset(request)
            return None
        if fault.kind == "bomb":
            return _bomb(fault.size)
        if fault.kind == "endless":
            return await _pour(request, Response(status=200, content=b""), self._endless(fault.seconds))
        refusal = _refusal(fault, rate_limit_type)
        if refusal is not None:
            return refusal.to_web(request, **_headers(fault))
        right = done or carry_out()
        if fault.kind == "drip":
            return await _pour(request, right, self._drip(right.content, fault.seconds), is_counted=True)
        return _ALTERED[fault.kind](right).to_web(request)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)

    async def _drip(self, content: bytes, seconds: float) -> AsyncIterator[bytes]:
        size = max(1, -(-len(content) // DROPS))
        for at in range(0, len(content), size):
            await self._pause(seconds * size / len(content))
            yield content[at : at + size]

    async def _endless(self, seconds: float) -> AsyncIterator[bytes]:
        until = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < until and not self.stopping.is_set():
            yield BLANK
            await asyncio.sleep(0)


async def _pour(
    request: web.Request, answer: Response, pieces: AsyncIterator[bytes], *, is_counted: bool = False
) -> web.StreamResponse:
    """Send a body piece by piece, until there is no more or the client has gone."""
    response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
    if is_counted:
        response.content_length = len(answer.content)
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
        async for piece in pieces:
            await response.write(piece)
        await response.write_eof()
    return response


def _bomb(size: int) -> web.Response:
    headers = {"Content-Encoding": "gzip"}
    return web.Response(body=_packed(size), content_type="application/json", headers=headers)


@cache
def _packed(size: int) -> bytes:
    packer = zlib.compressobj(wbits=31)
    whole = b"".join(packer.compress(piece) for piece in repeat(BLANK, -(-size // len(BLANK))))
    return whole + packer.flush()


def _refusal(fault: Fault, rate_limit_type: str) -> Response | None:
    """Return the answer to which nothing of the right one matters; ``None`` when the fault is another."""
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
    wanted = fault.retry_after
    return {"Retry-After": wanted if isinstance(wanted, str) else f"{wanted:g}"}


def _misshapen(right: Response) -> Response:
    return replace(right, content=b"[]" if right.content[:1] == b"{" else b"{}")


def _altered(alter: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Response], Response]:
    """Alter every object in an answer; what is no JSON stays as it is."""

    def change(value: Any) -> Any:
        if isinstance(value, list):
            return [change(it) for it in value]
        if isinstance(value, dict):
            return alter({name: change(it) for name, it in value.items()})
        return value

    def changed(right: Response) -> Response:
        try:
            return replace(right, content=json.dumps(change(json.loads(right.content))).encode())
        except ValueError:
            return right

    return changed


_ALTERED: Final[dict[str, Callable[[Response], Response]]] = {
    "slow": lambda right: right,
    "truncated": lambda right: replace(right, content=right.content[: max(1, len(right.content) // 2)]),
    "empty": lambda right: replace(right, content=b""),
    "mislabelled": lambda right: replace(right, content_type="text/plain; charset=utf-8"),
    "misshapen": _misshapen,
    "extra_fields": _altered(lambda it: {**it, "_later": {"thoughts": ["of", "Losant"]}}),
    "missing_fields": _altered(lambda it: {name: it[name] for name in it if name in LASTING}),
}
