# SPDX-License-Identifier: Apache-2.0
"""No failure leaves an execution running for no task: a retry reconnects, or the last try cancels."""

from __future__ import annotations

import pytest

from airflow_provider_losant.emulator import Fault
from tests.support.airflow_connection import connection
from tests.support.journey import ENDLESS, Journey, wait_for_late_requests

BOTH_MODES = pytest.mark.parametrize("mode", ["", "_deferred"], ids=["waiting", "deferred"])


def assert_cancelled_and_named(journey: Journey) -> None:
    """Check that the task has failed, and has cancelled its execution and said so."""
    assert journey.wait_for_end() == "failed"
    wait_for_late_requests()
    (execution,) = journey.executions
    assert execution["status"] == "canceled"
    assert journey.cancelled() == [execution["id"]]
    assert f"execution {execution['id']} was cancelled, because no retry is left" in journey.log()
    assert len(journey.requests_to("execute")) == 1


def test_a_connection_that_became_invalid_during_a_deferral_ends_no_task_that_has_retries_left(
    journey: Journey,
) -> None:
    journey.start("patient_deferred", ENDLESS)
    journey.wait_for_state("deferred")
    journey.wait_for_poll()

    journey.change_connection(conn_type="losant", extra={"application_id": "nonsense"})
    journey.let_it_complete()
    journey.wait_for_state("up_for_retry")
    extra = connection(journey.losant)["extra"]
    journey.change_connection(conn_type="losant", extra=extra)

    assert journey.wait_for_end() == "success"
    (execution,) = journey.executions
    assert journey.result["execution_id"] == execution["id"]
    assert f"Execution {execution['id']} may still be active" in journey.log(1)
    assert len(journey.requests_to("execute")) == 1
    assert journey.requests_to("cancelExecution") == []


def test_an_xcom_backend_that_fails_after_the_submission_leaves_no_execution_running(
    journey: Journey,
) -> None:
    journey.start("unpublished", ENDLESS)

    assert_cancelled_and_named(journey)
    assert "the storage of XComs denies access" in journey.log()


@BOTH_MODES
def test_an_outage_that_fails_the_last_try_leaves_no_execution_running(journey: Journey, mode: str) -> None:
    journey.start(f"short_outage{mode}", ENDLESS)
    journey.wait_for_state("deferred" if mode else "running")
    journey.wait_for_poll()

    # Losant is there again for the cancel request.
    journey.losant.inject("notebook.logs", Fault("server_error"), times=1_000)

    assert_cancelled_and_named(journey)
    assert "Lost contact with Losant" in journey.log()
