# SPDX-License-Identifier: Apache-2.0
"""Cancelling an execution that is so new that Losant may not know it yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.api.errors import (
    BadRequest,
    Forbidden,
    NotFound,
    NotLosantApi,
    ServerError,
    TransportError,
)
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.polling import conclude
from airflow_provider_losant.api.flows.wait import Target, Wait, WaitConfig
from tests.support.factories import CREATED_AT, REF, execution
from tests.unit.api.flow_driver import FlowDriver, maximum

if TYPE_CHECKING:
    from airflow_provider_losant.api.endpoints import Call

MAX_LOG_LAG = 60.0
UNKNOWN = NotFound(404, "NotFound", "Execution was not found")
CANCEL, LOGS = "notebook.cancelExecution", "notebook.logs"


class LaggingLosant(FlowDriver):
    """
    Losant with an execution that can be cancelled only some seconds after it was created.

    :param lag: Those seconds.
    :param log: Responses to requests for the execution log, in order; the last one is repeated.
    :param age: Seconds since the execution was created, by Losant's clock.
    :param skew: Seconds by which this machine's clock is ahead of Losant's.
    """

    def __init__(self, lag: float, log: list[Any], *, age: float = 0.0, skew: float = 0.0) -> None:
        super().__init__([self._respond], now=CREATED_AT + age + skew)
        self._lag, self._log, self._skew = lag, log, skew

    def _respond(self, call: Call[Any]) -> Any:
        if call.operation == LOGS:
            return self._log.pop(0) if len(self._log) > 1 else self._log[0]
        return None if self.now - self._skew - CREATED_AT >= self._lag else UNKNOWN

    def cancel(self, **more: Any) -> str:
        given: dict[str, Any] = {"max_log_lag": MAX_LOG_LAG, "clock": self.clock, "jitter": maximum} | more
        return self.drive(cancel(REF, "the task was killed", **given))


@pytest.mark.parametrize("log", [[execution("queued")], []], ids=["listed", "not listed"])
def test_a_new_execution_that_losant_does_not_know_yet_is_cancelled_when_it_does(log: Any) -> None:
    losant = LaggingLosant(3, [log])

    assert losant.cancel() == "requested"
    assert losant.sleeps == [1.0, 2.0]
    assert losant.operations() == [CANCEL, LOGS, CANCEL, LOGS, CANCEL]
    assert "cancelling it again" in losant.log


@pytest.mark.parametrize("status", ["completed", "errored", "timeout", "canceled", "a later word"])
def test_a_new_execution_that_has_ended_is_known_to_have_ended_at_once(status: str) -> None:
    losant = LaggingLosant(1e9, [[execution(status)]])

    assert losant.cancel() == "not_needed"
    assert (losant.operations(), losant.sleeps) == ([CANCEL, LOGS], [])
    assert f"does not need to be cancelled (status: {status})" in losant.log


def test_an_execution_that_ends_in_the_meantime_is_not_cancelled_again() -> None:
    losant = LaggingLosant(1e9, [[execution("inProgress")], [execution("completed")]])

    assert losant.cancel() == "not_needed"
    assert losant.sleeps == [1.0]


def test_an_execution_that_losant_is_cancelling_already_counts_as_cancelled() -> None:
    losant = LaggingLosant(1e9, [[execution("canceling")]])

    assert losant.cancel() == "requested"
    assert losant.operations() == [CANCEL, LOGS]


@pytest.mark.parametrize("age", [MAX_LOG_LAG, 3_600.0])
def test_an_old_execution_that_losant_does_not_know_needs_no_cancelling(age: float) -> None:
    losant = LaggingLosant(1e9, [[]], age=age)

    assert losant.cancel() == "not_needed"
    assert (losant.operations(), losant.sleeps) == ([CANCEL], [])


@pytest.mark.parametrize(
    ("age", "skew", "seconds"),
    [
        pytest.param(0, 0, 60, id="just created"),
        pytest.param(50, 0, 10, id="50 s old"),
        pytest.param(0, -600, 60, id="Losant's clock is 10 min ahead"),
    ],
)
def test_an_execution_is_cancelled_again_for_max_log_lag_and_then_given_up(
    age: float, skew: float, seconds: float
) -> None:
    losant = LaggingLosant(1e9, [[]], age=age, skew=skew)

    assert losant.cancel() == "not_needed"
    assert sum(losant.sleeps) == pytest.approx(seconds, abs=1)
    assert losant.operations()[-1] == CANCEL


def test_without_max_log_lag_the_first_404_is_believed() -> None:
    losant = LaggingLosant(1e9, [[]])

    assert losant.cancel(max_log_lag=0.0) == "not_needed"
    assert losant.operations() == [CANCEL]


@pytest.mark.parametrize("error", [ServerError(503, "", "down"), TransportError("reset")], ids=str)
def test_a_log_that_cannot_be_read_does_not_end_the_cancel(error: Exception) -> None:
    losant = LaggingLosant(3, [error, [execution("queued")]])

    assert losant.cancel() == "requested"


def test_of_a_notebook_that_does_not_exist_nothing_is_cancelled_again() -> None:
    losant = LaggingLosant(1e9, [NotFound(404, "NotFound", "Notebook was not found")])

    assert losant.cancel() == "not_needed"
    assert losant.operations() == [CANCEL, LOGS]


@pytest.mark.parametrize(
    ("error", "result"),
    [(BadRequest(400, "Validation", "ended"), "not_needed"), (Forbidden(403, "", "no"), "failed")],
    ids=["400", "403"],
)
def test_another_refusal_of_a_new_execution_is_final(error: Exception, result: str) -> None:
    driver = FlowDriver([error], now=CREATED_AT)

    assert driver.drive(cancel(REF, "a test", max_log_lag=MAX_LOG_LAG, clock=driver.clock)) == result
    assert driver.operations() == [CANCEL]


@pytest.mark.parametrize("error", [TransportError("lost"), ServerError(502, "", "bad gateway")], ids=str)
def test_a_404_after_a_lost_response_does_not_prove_that_a_new_execution_was_cancelled(
    error: Exception,
) -> None:
    driver = FlowDriver([error, UNKNOWN, [execution("queued")], None], now=CREATED_AT)
    flow = cancel(REF, "a test", retries=2, max_log_lag=MAX_LOG_LAG, clock=driver.clock, jitter=maximum)

    assert driver.drive(flow) == "requested"
    assert driver.operations() == [CANCEL, CANCEL, LOGS, CANCEL]


def test_a_deadline_right_after_the_submission_cancels_when_losant_knows_the_execution() -> None:
    losant = LaggingLosant(3, [[execution("inProgress")]])
    config = WaitConfig(poll_interval=20.0, deadline=losant.now, max_poll_outage=60.0)
    wait = Wait(Target.of(REF), config)
    wait.on_tick(losant.now)

    outcome = losant.drive(conclude(wait, cancel_on_timeout=True, clock=losant.clock))

    assert (outcome.ending, outcome.is_cancelled) == ("deadline", True)


def test_a_deadline_believes_a_404_as_soon_as_the_tasks_max_log_lag_has_passed() -> None:
    losant = LaggingLosant(1e9, [[execution("inProgress")]])
    config = WaitConfig(poll_interval=20.0, deadline=losant.now, max_poll_outage=60.0)
    wait = Wait(Target.of(REF), config)
    wait.on_tick(losant.now)

    flow = conclude(wait, cancel_on_timeout=True, max_log_lag=2.0, clock=losant.clock)

    assert not losant.drive(flow).is_cancelled
    assert losant.now <= CREATED_AT + 3


@pytest.mark.parametrize(
    "error",
    [NotLosantApi("a page"), NotLosantApi("a page", may_have_taken_effect=True), TransportError("reset")],
    ids=["a page with an error status", "a page", "a broken connection"],
)
def test_a_cancel_that_gets_the_page_of_a_gateway_is_sent_again(error: Exception) -> None:
    driver = FlowDriver([error, None])

    result = driver.drive(cancel(REF, "the task was killed", retries=1, clock=driver.clock, jitter=maximum))

    assert result == "requested"
    assert driver.operations() == [CANCEL, CANCEL]
