# SPDX-License-Identifier: Apache-2.0
"""What an observer of requests gets, from both HTTP clients."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_provider_losant.api.endpoints import Call, get_application
from airflow_provider_losant.api.errors import (
    InvalidArgument,
    LosantError,
    NotLosantApi,
    ProtocolError,
    ResponseTooLarge,
    TlsError,
    TransportError,
    error_class,
)
from airflow_provider_losant.api.http.observed import observed, observed_async
from tests.support.factories import APPLICATION_ID

CALL = get_application(APPLICATION_ID)


def failed(status: int) -> LosantError:
    return error_class(status)(status, "", "no")


OUTCOMES: list[tuple[LosantError | None, str | None]] = [
    (None, "ok"),
    (failed(400), "4xx"),
    (failed(401), "401"),
    (failed(403), "403"),
    (failed(404), "404"),
    (failed(405), "4xx"),
    (failed(408), "4xx"),
    (failed(429), "429"),
    (failed(500), "5xx"),
    (failed(503), "5xx"),
    (failed(999), "5xx"),
    (TransportError("refused", was_sent=False), "transport"),
    (TlsError("self-signed"), "transport"),
    (ProtocolError("cut short"), "unreadable"),
    (NotLosantApi("a web page"), "unreadable"),
    (ResponseTooLarge("endless"), "unreadable"),
    (InvalidArgument("verify", "no file"), None),
]


@pytest.mark.parametrize(("error", "outcome"), OUTCOMES, ids=repr)
@pytest.mark.parametrize("is_async", [False, True], ids=["worker", "triggerer"])
def test_each_request_has_one_outcome_of_few(
    error: LosantError | None, outcome: str | None, *, is_async: bool
) -> None:
    seen: list[tuple[str, str]] = []

    def send(call: Call[Any], /) -> Any:
        if error is not None:
            raise error
        return call.path

    async def send_async(call: Call[Any], /) -> Any:
        return send(call)

    def note(operation: str, outcome: str) -> None:
        seen.append((operation, outcome))

    def run() -> Any:
        if is_async:
            return asyncio.run(observed_async(send_async, note)(CALL))
        return observed(send, note)(CALL)

    if error is None:
        assert run() == CALL.path
    else:
        with pytest.raises(type(error)):
            run()
    assert seen == ([] if outcome is None else [("application.get", outcome)])


def test_without_an_observer_nothing_is_put_in_between() -> None:
    def send(call: Call[Any], /) -> Any:
        return call.path

    assert observed(send, None) is send
