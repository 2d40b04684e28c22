# SPDX-License-Identifier: Apache-2.0
"""
What can go wrong between us and Losant, as one tree.

::

    LosantError
    ├── InvalidArgument          refused here, before any request
    ├── TransportError           no answer came back
    │   └── TlsError             the server's certificate was not accepted
    ├── ProtocolError            an answer came back, but cut short or unreadable
    │   ├── ResponseTooLarge       the answer is longer than any of Losant's
    │   └── NotLosantApi            the answer is a web page or a redirect: the host is not Losant's API
    ├── FileAccessDenied              the host of a file refuses its address, which has expired as a rule
    ├── OutputError              an output cannot be had: there is none, or it is too large
    └── ResponseError            Losant answered with an error status
        ├── BadRequest 400   ├── Unauthorized 401   ├── Forbidden 403
        ├── NotFound 404     ├── RateLimited 429    └── ServerError 5xx

Two questions decide what may happen next, and each error answers them itself: *may it pass?*
(``is_transient``) and *may Losant have acted on the request all the same?* (``may_have_taken_effect``).
"""

from __future__ import annotations

from functools import partial
from typing import Any

JSON_ERRORS = (ValueError, RecursionError)
"""What a text raises that is no JSON, or JSON nested so deep that only malice can mean it."""
SHAPE_ERRORS = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading JSON raises that is not built as expected."""


def is_transient_status(status: int) -> bool:
    """Tell whether an HTTP status says that the same request may be answered another time."""
    return status in {408, 425, 429} or status >= 500  # noqa: PLR2004 - HTTP's own numbers


class LosantError(Exception):
    """
    Base of everything this package raises about Losant; the message never holds the token.

    :ivar is_transient: Whether the same request may be answered another time.
    :ivar may_have_taken_effect: Whether Losant may have acted on the request all the same.
    :ivar retry_after: Seconds that Losant asked to wait, when it did.
    """

    is_transient = False
    may_have_taken_effect = False
    retry_after: float | None = None


class InvalidArgument(LosantError, ValueError):
    """
    A value that Losant would refuse, or silently misread; nothing was sent.

    :param field: The argument at fault, under the name the caller knows it by.
    :param problem: What is wrong with it, as the rest of a sentence.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem

    def __reduce__(self) -> tuple[type[InvalidArgument], tuple[str, str]]:
        return type(self), (self.field, self.problem)


class TransportError(LosantError):
    """
    No answer came back.

    :param message: What happened, in one sentence.
    :param was_sent: False when the request certainly never left (refused connection, unknown host).
    """

    is_transient = True

    def __init__(self, message: str, *, was_sent: bool = True) -> None:
        super().__init__(message)
        self.may_have_taken_effect = was_sent


class TlsError(TransportError):
    """The server's certificate was not accepted; trying again cannot help."""

    is_transient = False

    def __init__(self, message: str) -> None:
        super().__init__(message, was_sent=False)


class ProtocolError(LosantError):
    """An answer that broke off or cannot be read, so nobody knows what it would have said."""

    is_transient = True
    may_have_taken_effect = True


class ResponseTooLarge(ProtocolError):
    """An answer that was not read to its end, as there is no end to be seen; the next would be as long."""

    is_transient = False


class NotLosantApi(ProtocolError):
    """
    A web page or a redirect where Losant answers JSON: something else lives at this address.

    :param message: What came, in one sentence.
    :param may_have_taken_effect: False when the answer itself says that the request was not taken.
    """

    is_transient = False

    def __init__(self, message: str, *, may_have_taken_effect: bool = False) -> None:
        super().__init__(message)
        self.may_have_taken_effect = may_have_taken_effect


class FileAccessDenied(LosantError):
    """The host of a file refuses its address; a fresh one may do."""

    is_transient = True


class OutputError(LosantError):
    """An output cannot be had as it was asked for; trying again changes nothing."""


class ResponseError(LosantError):
    """
    Losant answered with an error status.

    :param status: HTTP status.
    :param type: Losant's name for the error, such as ``Validation``; empty when it gave none.
    :param message: Losant's own message.
    :param operation: What was asked, such as ``notebook.execute``.
    :param retry_after: Seconds Losant asked to wait, when it did.
    :param hint: What the reader can do about it.
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
        answer = " ".join(filter(None, (str(status), type)))
        asked = f" to {operation}" if operation else ""
        super().__init__(f"Losant answered {answer}{asked}: {message}{hint and f' ({hint})'}")
        self.status = status
        self.type = type
        self.message = message
        self.operation = operation
        self.retry_after = retry_after
        self.is_transient = is_transient_status(status)
        self.may_have_taken_effect = status == 408 or status >= 500  # noqa: PLR2004 - HTTP's own numbers
        self._hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        again = partial(type(self), operation=self.operation, retry_after=self.retry_after, hint=self._hint)
        return again, (self.status, self.type, self.message)


class BadRequest(ResponseError):
    """400: a parameter or the body is not what Losant expects."""


class Unauthorized(ResponseError):
    """401: the token is garbage, expired or revoked."""


class Forbidden(ResponseError):
    """403: the token lacks the scope, or there is no token at all."""


class NotFound(ResponseError):
    """404: no such application, notebook or execution that this token can see."""


class RateLimited(ResponseError):
    """429: too many requests; ``retry_after`` says how long to wait, when Losant does."""


class ServerError(ResponseError):
    """5xx: Losant, or a proxy before it, failed; whether it acted first is unknown."""


_BY_STATUS = {400: BadRequest, 401: Unauthorized, 403: Forbidden, 404: NotFound, 429: RateLimited}


def error_class(status: int) -> type[ResponseError]:
    """Return the class that an error status is raised as."""
    if status >= 500:  # noqa: PLR2004 - HTTP's own number
        return ServerError
    return _BY_STATUS.get(status, ResponseError)
