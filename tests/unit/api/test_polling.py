# SPDX-License-Identifier: Apache-2.0
"""Retrying and cancelling: which requests are repeated and which never."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.endpoints import Page
from airflow_provider_losant.api.errors import (
    BadRequest,
    Forbidden,
    LosantError,
    NotFound,
    ProtocolError,
    RateLimited,
    ServerError,
    TlsError,
    TransportError,
    Unauthorized,
)
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.notebooks import list_notebooks
from airflow_provider_losant.api.flows.retry import call_with_retry
from airflow_provider_losant.api.flows.steps import Tail
from airflow_provider_losant.api.model import Notebook
from tests.support.factories import APPLICATION_ID, EXECUTION_ID, NOTEBOOK_ID, REF
from tests.unit.api.flow_driver import FlowDriver, maximum

RESULT = Notebook(id=NOTEBOOK_ID, application_id=APPLICATION_ID, name="Report")
READ = endpoints.get_notebook(APPLICATION_ID, NOTEBOOK_ID)
EXECUTE = endpoints.execute(APPLICATION_ID, NOTEBOOK_ID, {})
REFUSED = TransportError("refused", was_sent=False)
LOST = TransportError("connection lost")
BUSY = RateLimited(429, "", "slow down")
DOWN = ServerError(503, "", "no message")


@pytest.mark.parametrize("error", [REFUSED, LOST, BUSY, DOWN, ProtocolError("cut short")], ids=str)
def test_an_idempotent_call_is_retried_after_a_transient_error(error: LosantError) -> None:
    driver = FlowDriver([error, error, RESULT])

    assert driver.drive(call_with_retry(READ, 2)) == RESULT
    assert driver.calls == [READ] * 3
    assert "retrying (2 of 2)" in driver.log


@pytest.mark.parametrize("error", [LOST, DOWN, ProtocolError("cut short")], ids=str)
def test_a_submission_that_may_have_taken_effect_is_never_repeated(error: LosantError) -> None:
    driver = FlowDriver([error])

    with pytest.raises(type(error)):
        driver.drive(call_with_retry(EXECUTE, 5))
    assert driver.calls == [EXECUTE]


@pytest.mark.parametrize("error", [REFUSED, BUSY], ids=str)
def test_a_submission_without_effect_is_repeated(error: LosantError) -> None:
    driver = FlowDriver([error, REF])

    assert driver.drive(call_with_retry(EXECUTE, 5)) == REF


@pytest.mark.parametrize(
    "error",
    [
        BadRequest(400, "", "no"),
        Unauthorized(401, "", "no"),
        Forbidden(403, "", "no"),
        NotFound(404, "", "no"),
        TlsError("self-signed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_permanent_errors_are_not_retried(error: LosantError) -> None:
    driver = FlowDriver([error])

    with pytest.raises(type(error)):
        driver.drive(call_with_retry(READ, 5))
    assert (len(driver.calls), driver.sleeps) == (1, [])


def test_retries_end_with_the_last_error() -> None:
    driver = FlowDriver([LOST, LOST, DOWN])

    with pytest.raises(ServerError):
        driver.drive(call_with_retry(READ, 2))
    assert len(driver.calls) == 3


def test_pauses_between_retries_grow() -> None:
    driver = FlowDriver([LOST, LOST, LOST, RESULT])

    driver.drive(call_with_retry(READ, 3, jitter=maximum))

    assert driver.sleeps == [1.0, 2.0, 4.0]


def test_a_pause_is_at_least_retry_after() -> None:
    driver = FlowDriver([RateLimited(429, "", "slow down", retry_after=30.0), RESULT])

    driver.drive(call_with_retry(READ, 1))

    assert 30.0 <= driver.sleeps[0] <= 31.0


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (
            endpoints.delete_notebook(APPLICATION_ID, NOTEBOOK_ID),
            NotFound(404, "NotFound", "no such notebook"),
        ),
        (endpoints.cancel_execution(REF), NotFound(404, "NotFound", "no such execution")),
        (endpoints.cancel_execution(REF), BadRequest(400, "Validation", "it has ended")),
    ],
    ids=["delete", "cancel", "cancel that is refused"],
)
def test_not_found_confirms_a_delete_with_a_lost_response(call: Any, error: LosantError) -> None:
    assert FlowDriver([LOST, error]).drive(call_with_retry(call, 3)) is None
    for without_effect in (REFUSED, BUSY):
        with pytest.raises(type(error)):
            FlowDriver([without_effect, error]).drive(call_with_retry(call, 3))


def test_a_host_that_repeats_the_same_page_is_not_paged_forever() -> None:
    driver = FlowDriver([Page(notebooks=[RESULT], total=1_000_000)])

    assert set(driver.drive(list_notebooks(APPLICATION_ID, {}, 0))) == {RESULT}
    assert len(driver.calls) == 2


def test_cancelling_sends_one_request() -> None:
    driver = FlowDriver([None])

    assert driver.drive(cancel(REF, "the task was killed")) == "requested"
    assert [(call.operation, dict(call.query)) for call in driver.calls] == [
        ("notebook.cancelExecution", {"executionId": EXECUTION_ID})
    ]
    assert EXECUTION_ID in driver.log
    assert "the task was killed" in driver.log


@pytest.mark.parametrize("error", [NotFound(404, "", "no"), BadRequest(400, "", "has ended")], ids=str)
def test_an_ended_execution_is_not_cancelled(error: LosantError) -> None:
    driver = FlowDriver([error])

    assert driver.drive(cancel(REF, "the task was killed", retries=2)) == "not_needed"
    assert len(driver.calls) == 1


@pytest.mark.parametrize(
    ("error", "requests"), [(DOWN, 3), (LOST, 3), (Forbidden(403, "", "no"), 1)], ids=repr
)
def test_a_failed_cancel_is_logged_and_not_raised(error: Any, requests: int) -> None:
    driver = FlowDriver([error])

    assert driver.drive(cancel(REF, "the task was killed", retries=2)) == "failed"
    assert len(driver.calls) == requests
    assert EXECUTION_ID in driver.log_lines[-1].text


def test_a_cancel_is_retried_because_it_is_idempotent() -> None:
    driver = FlowDriver([LOST, None])

    assert driver.drive(cancel(REF, "the task was killed", retries=2))


def test_a_signed_url_is_in_no_repr_of_a_step() -> None:
    assert "secret" not in repr(Tail("https://storage.example/?sig=secret"))
