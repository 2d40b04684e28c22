# SPDX-License-Identifier: Apache-2.0
"""
The errors that calls to Losant raise, as one tree.

::

    LosantError
    ├── InvalidArgument          an argument is invalid; no request was sent
    ├── TransportError           no response
    │   └── TlsError             the server's certificate was not accepted
    ├── ProtocolError            an incomplete or unreadable response
    │   ├── ResponseTooLarge     a longer response than Losant ever sends
    │   └── NotLosantApi         a web page or a redirect: the host is not Losant's API
    ├── FileAccessDenied         the file host rejected the signed URL, usually because it expired
    ├── OutputError              an output does not exist or is too large
    ├── LogIncomplete            an execution is not in what could be read of the execution log
    └── ResponseError            Losant returned an error status
        ├── BadRequest 400   ├── Unauthorized 401   ├── Forbidden 403
        ├── NotFound 404     ├── RateLimited 429    └── ServerError 5xx
        │   └── ExecutionNotFound    the complete execution log does not list the execution

Two attributes decide what may be done next: whether the same request may succeed later (``is_transient``),
and whether Losant may have executed the request despite the error (``may_have_taken_effect``).
"""

from __future__ import annotations

from functools import partial
from typing import Any

JSON_ERRORS = (ValueError, RecursionError)
"""Exceptions raised for malformed or maliciously nested JSON."""
SHAPE_ERRORS = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""Exceptions raised when a field of a JSON response is missing or has another type."""


def is_transient_status(status: int) -> bool:
    """Return whether the same request may succeed later: 408, 425, 429 and 5xx."""
    return status in {408, 425, 429} or status >= 500  # noqa: PLR2004 - HTTP's own numbers


class LosantError(Exception):
    """
    Base class of all errors about Losant; the message never contains the token.

    :ivar is_transient: Whether the same request may succeed later.
    :ivar may_have_taken_effect: Whether Losant may have executed the request despite the error.
    :ivar retry_after: Seconds from the ``Retry-After`` header; None without one.
    """

    is_transient = False
    may_have_taken_effect = False
    retry_after: float | None = None


class InvalidArgument(LosantError, ValueError):
    """
    An argument that Losant would reject or silently misread; no request was sent.

    :param field: The argument's name, as the caller knows it.
    :param problem: What is wrong with the value.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem

    def __reduce__(self) -> tuple[type[InvalidArgument], tuple[str, str]]:
        return type(self), (self.field, self.problem)


class TransportError(LosantError):
    """
    No response was received.

    :param message: What happened.
    :param was_sent: False if the request was certainly not sent (refused connection, unknown host).
    """

    is_transient = True

    def __init__(self, message: str, *, was_sent: bool = True) -> None:
        super().__init__(message)
        self.may_have_taken_effect = was_sent


class TlsError(TransportError):
    """The server's certificate was not accepted; retrying does not help."""

    is_transient = False

    def __init__(self, message: str) -> None:
        super().__init__(message, was_sent=False)


class ProtocolError(LosantError):
    """The response is incomplete or unreadable, so the outcome of the request is unknown."""

    is_transient = True
    may_have_taken_effect = True


class ResponseTooLarge(ProtocolError):
    """The response exceeds the size limit and was not read to its end; a retry would exceed it too."""

    is_transient = False


class NotLosantApi(ProtocolError):
    """
    The response is a web page or a redirect instead of JSON: the host is not Losant's API.

    :param message: What was received.
    :param may_have_taken_effect: False if the response's status shows that the request was rejected.
    """

    is_transient = False

    def __init__(self, message: str, *, may_have_taken_effect: bool = False) -> None:
        super().__init__(message)
        self.may_have_taken_effect = may_have_taken_effect


class FileAccessDenied(LosantError):
    """The file host rejected the signed URL, usually because it expired; a new URL may work."""

    is_transient = True


class OutputError(LosantError):
    """A requested output does not exist or is too large; retrying does not help."""


class LogIncomplete(LosantError):
    """
    The execution log could not be read back far enough, so it is unknown whether there is an execution.

    Losant returns only a log's latest entries. It may list the execution, or return more entries, later.
    """

    is_transient = True


class ResponseError(LosantError):
    """
    Losant returned an error status.

    :param status: HTTP status.
    :param type: Losant's name for the error, such as ``Validation``; empty if the response has none.
    :param message: Losant's message.
    :param operation: The operation that was called, such as ``notebook.execute``.
    :param retry_after: Seconds from the ``Retry-After`` header; None without one.
    :param hint: How to fix it, for the user.
    """

    def __init__(
        self,
        status: int,
        type: str,  # noqa: A002 - Losant's own field name
        message: str,
        *,
        operation: str = "",
        retry_after: float | None = None,
        hint: str = "",
    ) -> None:
        response = " ".join(filter(None, (str(status), type)))
        request = f" for {operation}" if operation else ""
        super().__init__(f"Losant returned {response}{request}: {message}{hint and f' ({hint})'}")
        self.status = status
        self.type = type
        self.message = message
        self.operation = operation
        self.retry_after = retry_after
        self.is_transient = is_transient_status(status)
        self.may_have_taken_effect = status == 408 or status >= 500  # noqa: PLR2004 - HTTP's own numbers
        self._hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        restore = partial(type(self), operation=self.operation, retry_after=self.retry_after, hint=self._hint)
        return restore, (self.status, self.type, self.message)


class BadRequest(ResponseError):
    """400: a parameter or the body is invalid."""


class Unauthorized(ResponseError):
    """401: the token is invalid, expired or revoked."""


class Forbidden(ResponseError):
    """403: the token lacks the scope, or the request had no token."""


class NotFound(ResponseError):
    """404: the application, notebook or execution does not exist or is not visible to this token."""


class ExecutionNotFound(NotFound):
    """
    The execution log was read completely and does not list the execution.

    Losant has no request for one execution, so no response had the status 404: ``status`` has it only so
    that callers can handle this like any other :class:`NotFound`.

    :param message: Which log does not list which execution.
    """

    def __init__(self, message: str) -> None:
        super().__init__(404, "NotFound", message)
        self.args = (message,)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args


class RateLimited(ResponseError):
    """429: too many requests; ``retry_after`` is the time to wait, if Losant sent it."""


class ServerError(ResponseError):
    """5xx: Losant or a proxy in between failed; Losant may have executed the request."""


_BY_STATUS = {400: BadRequest, 401: Unauthorized, 403: Forbidden, 404: NotFound, 429: RateLimited}


def error_class(status: int) -> type[ResponseError]:
    """Return the exception class for an HTTP error status."""
    if status >= 500:  # noqa: PLR2004 - HTTP's own number
        return ServerError
    return _BY_STATUS.get(status, ResponseError)
