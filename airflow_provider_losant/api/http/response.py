# SPDX-License-Identifier: Apache-2.0
"""What an HTTP answer means: what its call promises, or an error that says what follows from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_losant.api.errors import (
    JSON_ERRORS,
    SHAPE_ERRORS,
    NotLosantApi,
    ProtocolError,
    ResponseError,
    error_class,
)
from airflow_provider_losant.api.fields import one_line
from airflow_provider_losant.api.flows.retry import retry_after

if TYPE_CHECKING:
    from airflow_provider_losant.api.endpoints import Call

T = TypeVar("T")


def is_success(status: int) -> bool:
    """Tell whether a host that was asked for a file gives it."""
    return 200 <= status < 300  # noqa: PLR2004 - HTTP's own numbers


def parse_response(call: Call[T], status: int, headers: Mapping[str, str], body: bytes) -> T:
    """
    Turn an HTTP answer into what the call promises, or into the error it means.

    :param headers: Case-insensitive.
    :raises ResponseError: an error status.
    :raises NotLosantApi: a redirect, or a web page.
    :raises ProtocolError: JSON that breaks off or has another shape.
    """
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP's own numbers
        raise NotLosantApi(f"{call.operation} was redirected ({status}): the host is not Losant's API")
    answer = _json(body)
    kind = one_line(headers.get("content-type") or "no content type")
    if status >= 400:  # noqa: PLR2004 - as above
        error = _error(call, status, headers, answer)
        if body and answer is _UNREADABLE and not error.is_transient:
            raise NotLosantApi(f"{call.operation} got {status} with {kind}: the host is not Losant's API")
        raise error
    if answer is _UNREADABLE:
        # Without a body it may as well have broken off before its headers were complete.
        if body and "json" not in kind:
            # A gateway may have said so after it had passed the request on.
            raise NotLosantApi(
                f"{call.operation} got {kind} instead of JSON: the host is not Losant's API",
                may_have_taken_effect=True,
            )
        raise ProtocolError(f"the answer to {call.operation} broke off after {len(body)} bytes")
    try:
        return call.parse(answer)
    except SHAPE_ERRORS as error:
        raise ProtocolError(
            f"the answer to {call.operation} has an unknown shape: {type(error).__name__} {one_line(error)}"
        ) from None


_UNREADABLE: Any = object()


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except JSON_ERRORS:
        return _UNREADABLE


def _error(call: Call[Any], status: int, headers: Mapping[str, str], answer: Any) -> ResponseError:
    envelope = answer if isinstance(answer, dict) else {}
    wait = retry_after(headers.get("retry-after"), headers.get("date"))
    return error_class(status)(
        status,
        one_line(envelope.get("type") or envelope.get("code") or ""),
        one_line(envelope.get("message") or "no message"),
        operation=call.operation,
        retry_after=wait,
        hint=_hint(call, status, wait),
    )


def _hint(call: Call[Any], status: int, wait: float | None) -> str:
    if status == 401:  # noqa: PLR2004 - HTTP's own number
        return "the API token is wrong, expired or revoked"
    if status == 403:  # noqa: PLR2004 - as above
        return f"the API token needs the scope {call.scope or call.operation}"
    if status == 429 and call.min_interval is not None:  # noqa: PLR2004 - as above
        left = "" if wait is None else f"; {wait:.0f} s are left"
        return f"one in {call.min_interval / 60:g} minutes for each notebook{left}"
    return ""
