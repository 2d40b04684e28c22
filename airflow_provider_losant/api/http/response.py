# SPDX-License-Identifier: Apache-2.0
"""Convert an HTTP response to the call's result or to an exception."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_losant.api.errors import (
    JSON_ERRORS,
    SHAPE_ERRORS,
    FileAccessDenied,
    NotLosantApi,
    ProtocolError,
    ResponseError,
    TransportError,
    error_class,
    is_transient_status,
)
from airflow_provider_losant.api.fields import one_line
from airflow_provider_losant.api.flows.retry import retry_after

if TYPE_CHECKING:
    from airflow_provider_losant.api.endpoints import Call

T = TypeVar("T")


MAX_REDIRECTS = 5
"""Requests for one file, each after the first caused by a redirect."""
_REDIRECTS = {301, 302, 303, 307, 308}


def is_redirect(status: int, headers: Mapping[str, str]) -> bool:
    """Return whether the response to a download names another place of the file."""
    return status in _REDIRECTS and "location" in headers


def is_success(status: int) -> bool:
    """Return whether the status is 2xx."""
    return 200 <= status < 300  # noqa: PLR2004 - HTTP's own numbers


def check_file(status: int) -> None:
    """
    Check the response to a request for a file.

    :raises LosantError: it is an error; transient, because another signed URL may work.
    """
    if not is_success(status):
        error = TransportError if is_transient_status(status) else FileAccessDenied
        raise error(f"the file host returned {status}")


def has_end(status: int) -> bool:
    """Check the response to a request for the end of a file, which of an empty file may be 416."""
    if status == 416:  # noqa: PLR2004 - HTTP's own number
        return False
    check_file(status)
    return True


def parse_response(call: Call[T], status: int, headers: Mapping[str, str], body: bytes) -> T:
    """
    Return the result of a call from its HTTP response.

    :param headers: The response's headers; case-insensitive.
    :param body: The decoded body.
    :raises ResponseError: Losant returned an error status.
    :raises NotLosantApi: the response is a redirect, a web page, or an error in another form than Losant's.
    :raises TransportError: a proxy on the way refused the request.
    :raises ProtocolError: the JSON is incomplete or has an unknown shape.
    """
    if 300 <= status < 400:  # noqa: PLR2004 - HTTP's own numbers
        raise NotLosantApi(f"{call.operation} was redirected ({status}): the host is not Losant's API")
    if status == 407:  # noqa: PLR2004 - as above
        raise TransportError(f"{call.operation}: the proxy returned 407", was_sent=False)
    content = _json(body)
    if status >= 400:  # noqa: PLR2004 - as above
        error = _error(call, status, headers, content)
        if body and not error.is_transient and not _is_losants_error(content):
            what = _content_type(headers) if content is _UNREADABLE else "JSON that is not Losant's"
            raise NotLosantApi(f"{call.operation} got {status} with {what}: the host is not Losant's API")
        raise error
    if content is _UNREADABLE:
        # Without a body, the response may have broken off before its headers were complete.
        content_type = _content_type(headers)
        if body and "json" not in content_type:
            # A gateway may respond like this after it has forwarded the request.
            raise NotLosantApi(
                f"{call.operation} got {content_type} instead of JSON: the host is not Losant's API",
                may_have_taken_effect=True,
            )
        raise ProtocolError(f"the response to {call.operation} is not complete JSON ({len(body)} bytes)")
    try:
        return call.parse(content)
    except SHAPE_ERRORS as error:
        raise ProtocolError(
            f"the response to {call.operation} has an unknown shape: {type(error).__name__} {one_line(error)}"
        ) from None


@contextmanager
def gc_paused() -> Iterator[None]:
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


_UNREADABLE: Any = object()


def _content_type(headers: Mapping[str, str]) -> str:
    return one_line(headers.get("content-type") or "no content type")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except JSON_ERRORS:
        return _UNREADABLE


def _is_losants_error(content: Any) -> bool:
    """Tell whether a body has one of the fields of Losant's errors."""
    return isinstance(content, dict) and not content.keys().isdisjoint({"type", "code", "message"})


def _error(call: Call[Any], status: int, headers: Mapping[str, str], content: Any) -> ResponseError:
    envelope = content if isinstance(content, dict) else {}
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
        remaining = "" if wait is None else f"; retry in {wait:.0f} s"
        return f"Losant allows one per notebook in {call.min_interval / 60:g} minutes{remaining}"
    return ""
