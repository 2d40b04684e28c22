# SPDX-License-Identifier: Apache-2.0
"""Each error knows whether it is transient and whether the request may have taken effect."""

from __future__ import annotations

import pickle

import pytest

from airflow_provider_losant.api import errors
from airflow_provider_losant.api.errors import (
    BadRequest,
    ExecutionNotFound,
    Forbidden,
    InvalidArgument,
    LosantError,
    NotFound,
    NotLosantApi,
    ProtocolError,
    RateLimited,
    ResponseError,
    ServerError,
    TlsError,
    TransportError,
    Unauthorized,
    error_class,
)


@pytest.mark.parametrize(
    ("status", "kind", "passing", "landed"),
    [
        (400, BadRequest, False, False),
        (401, Unauthorized, False, False),
        (402, ResponseError, False, False),
        (403, Forbidden, False, False),
        (404, NotFound, False, False),
        (405, ResponseError, False, False),
        (408, ResponseError, True, True),
        (413, ResponseError, False, False),
        (425, ResponseError, True, False),
        (429, RateLimited, True, False),
        (500, ServerError, True, True),
        (502, ServerError, True, True),
        (503, ServerError, True, True),
        (504, ServerError, True, True),
        (599, ServerError, True, True),
    ],
)
def test_each_status_raises_an_error_with_the_right_flags(
    status: int, kind: type[ResponseError], passing: bool, landed: bool
) -> None:
    error = error_class(status)(status, "Type", "Message")

    assert type(error) is kind
    assert (error.is_transient, error.may_have_taken_effect) == (passing, landed)


@pytest.mark.parametrize(
    ("error", "passing", "landed"),
    [
        (InvalidArgument("field", "is wrong"), False, False),
        (TransportError("gone"), True, True),
        (TransportError("refused", was_sent=False), True, False),
        (TlsError("self-signed"), False, False),
        (ProtocolError("cut short"), True, True),
        (NotLosantApi("a redirect"), False, False),
        (NotLosantApi("a page", may_have_taken_effect=True), False, True),
    ],
    ids=str,
)
def test_errors_without_a_status_have_the_right_flags(
    error: LosantError, passing: bool, landed: bool
) -> None:
    assert (error.is_transient, error.may_have_taken_effect, error.retry_after) == (passing, landed, None)


def test_a_message_has_the_request_the_response_and_a_remedy() -> None:
    error = Forbidden(403, "Forbidden", "Access is forbidden", operation="notebook.logs", hint="add a scope")

    assert str(error) == (
        "Losant returned 403 Forbidden for notebook.logs: Access is forbidden (add a scope)"
    )
    assert str(ServerError(502, "", "no message")) == "Losant returned 502: no message"


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgument("field", "is wrong"),
        TransportError("refused", was_sent=False),
        TlsError("self-signed"),
        ProtocolError("cut short"),
        NotLosantApi("a page", may_have_taken_effect=True),
        BadRequest(400, "Validation", "limit is the wrong type"),
        ExecutionNotFound("the log does not list the execution"),
        RateLimited(429, "TooMany", "slow down", operation="notebook.logs", retry_after=7.0, hint="wait"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_pickling(error: LosantError) -> None:
    back = pickle.loads(pickle.dumps(error))

    assert (type(back), str(back), vars(back)) == (type(error), str(error), vars(error))


def test_all_errors_can_be_caught_as_one() -> None:
    raised = [it for it in vars(errors).values() if isinstance(it, type) and issubclass(it, Exception)]

    assert len(raised) >= 13
    assert all(issubclass(it, LosantError) for it in raised)
    assert issubclass(InvalidArgument, ValueError)
