# SPDX-License-Identifier: Apache-2.0
"""Report the outcome of each request to an observer, for metrics: the same for both HTTP clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from airflow_provider_losant.api.errors import LosantError, ProtocolError, ResponseError, TransportError

if TYPE_CHECKING:
    from airflow_provider_losant.api.endpoints import Call

T = TypeVar("T")
OnRequest = Callable[[str, str], None]
"""
Gets operation and outcome of each request, and must not raise.

The outcome is ``ok``, ``401``, ``403``, ``404``, ``429``, ``4xx`` (any other), ``5xx``, ``transport`` (no
response) or ``unreadable`` (an incomplete response, or one that is not Losant's).
"""

_OWN_OUTCOME = {401, 403, 404, 429}


class Send(Protocol):
    """Sends a request, and returns the result of the call."""

    def __call__(self, call: Call[T], /) -> T: ...


class SendAsync(Protocol):
    """Sends a request on an event loop, and returns the result of the call."""

    async def __call__(self, call: Call[T], /) -> T: ...


def observed(send: Send, on_request: OnRequest | None) -> Send:
    """Return a function that sends a request and reports its outcome; without an observer, ``send``."""
    if on_request is None:
        return send

    def send_and_report(call: Call[T], /) -> T:
        try:
            result = send(call)
        except LosantError as error:
            _report(on_request, call.operation, error)
            raise
        on_request(call.operation, "ok")
        return result

    return send_and_report


def observed_async(send: SendAsync, on_request: OnRequest | None) -> SendAsync:
    """Do the same for a coroutine function."""
    if on_request is None:
        return send

    async def send_and_report(call: Call[T], /) -> T:
        try:
            result = await send(call)
        except LosantError as error:
            _report(on_request, call.operation, error)
            raise
        on_request(call.operation, "ok")
        return result

    return send_and_report


def _report(on_request: OnRequest, operation: str, error: LosantError) -> None:
    outcome = _outcome(error)
    if outcome is not None:
        on_request(operation, outcome)


def _outcome(error: LosantError) -> str | None:
    match error:
        case ResponseError():
            if error.status in _OWN_OUTCOME:
                return str(error.status)
            return "4xx" if error.status < 500 else "5xx"  # noqa: PLR2004 - HTTP's own number
        case TransportError():
            return "transport"
        case ProtocolError():
            return "unreadable"
    return None  # no request was sent
