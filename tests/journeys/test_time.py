# SPDX-License-Identifier: Apache-2.0
"""Each execution has one deadline, in every mode and try; and what happens if a trigger never fires."""

from __future__ import annotations

import time
from signal import SIGKILL
from typing import TYPE_CHECKING

import pytest

from airflow_provider_losant.emulator import Fault, Script
from tests.support.journey import ENDLESS, Journey, wait_for_late_requests
from tests.support.postgres import execute

if TYPE_CHECKING:
    from tests.support.local_airflow import LocalAirflow

BUSY = 120.0
"""Seconds after which a cancel has other causes than a busy machine; the timeout of a task is a day."""
BOTH_MODES = pytest.mark.parametrize("mode", ["", "_deferred"], ids=["waiting", "deferred"])


def waited(journey: Journey) -> float:
    """Return the seconds from the submission of the only execution to its only cancel."""
    (submission,), (cancel,) = journey.requests_to("execute"), journey.requests_to("cancelExecution")
    return cancel.at - submission.at


def assert_timeout_in_log(journey: Journey, fate: str) -> None:
    """Check that the log gives the timeout as the cause, and what became of the execution."""
    log = journey.log()
    assert "did not end within timeout (4 s)" in log
    assert fate in log


@BOTH_MODES
def test_when_timeout_has_passed_the_execution_is_cancelled_and_the_log_says_so(
    journey: Journey, mode: str
) -> None:
    journey.start(f"limited{mode}", ENDLESS)

    assert journey.wait_for_end() == "failed"
    assert journey.statuses == ["canceled"]
    assert 3.5 <= waited(journey) < BUSY
    assert_timeout_in_log(journey, "was cancelled")
    assert len(journey.requests_to("execute")) == 1


@BOTH_MODES
def test_without_cancel_on_timeout_the_execution_is_left_running_and_the_log_says_so(
    journey: Journey, mode: str
) -> None:
    journey.start(f"lenient{mode}", ENDLESS)

    assert journey.wait_for_end() == "failed"
    wait_for_late_requests()
    assert journey.statuses == ["inProgress"]
    assert journey.requests_to("cancelExecution") == []
    assert_timeout_in_log(journey, "was not cancelled")


@BOTH_MODES
def test_when_execution_timeout_has_passed_the_execution_is_cancelled_once(
    journey: Journey, mode: str
) -> None:
    journey.start(f"hurried{mode}", ENDLESS)

    assert journey.wait_for_end() == "failed"
    wait_for_late_requests()
    assert journey.statuses == ["canceled"]
    assert waited(journey) < BUSY
    assert len(journey.requests_to("execute")) == 1


def test_an_execution_timeout_during_the_submission_cancels_the_execution(journey: Journey) -> None:
    journey.losant.inject("notebook.execute", Fault("slow", seconds=15, processed=True))
    journey.start("hurried", ENDLESS)

    assert journey.wait_for_end() == "failed"
    journey.wait_until(lambda: journey.requests_to("cancelExecution"), "a cancel")
    wait_for_late_requests()
    assert journey.statuses == ["canceled"]
    assert len(journey.requests_to("cancelExecution")) == len(journey.requests_to("execute")) == 1


def test_the_time_of_a_retry_counts_from_the_submission(journey: Journey) -> None:
    journey.start("limited_retrying", ENDLESS)
    journey.wait_for_poll()

    journey.signal(SIGKILL)

    assert journey.wait_for_end() == "failed"
    assert journey.task["try_number"] == 2
    assert journey.statuses == ["canceled"]
    assert 11.5 <= waited(journey) < 30
    assert len(journey.requests_to("execute")) == 1


def test_a_crash_of_the_trigger_does_not_fail_a_task_whose_execution_has_completed(journey: Journey) -> None:
    # The trigger crashes whenever it is loaded, so that in the end the worker looks at the execution itself.
    journey.start("crashing", Script(notebook=0.2))

    assert journey.wait_for_end() == "success"
    assert journey.result["execution_id"] == journey.executions[0]["id"]
    assert journey.statuses == ["completed"]
    assert len(journey.requests_to("execute")) == 1
    assert journey.log().count("Trigger failed without an event") == 4


def test_after_several_crashes_of_the_trigger_the_task_waits_in_the_worker(journey: Journey) -> None:
    journey.start("crashing", Script(notebook=35))

    assert journey.wait_for_end() == "success"
    assert journey.result["execution_id"] == journey.executions[0]["id"]
    assert journey.statuses == ["completed"]
    assert len(journey.requests_to("execute")) == 1
    assert journey.requests_to("cancelExecution") == []
    assert journey.log().count("Trigger failed without an event") == 4


@pytest.mark.xdist_group("stopped-airflow")
def test_when_no_triggerer_is_left_the_deferral_timeout_cancels_the_execution_and_fails_the_task(
    own_airflow: LocalAirflow, own_journey: Journey
) -> None:
    journey = own_journey
    journey.start("limited_deferred", ENDLESS, waits=False)
    own_airflow.triggerer.kill()
    try:
        journey.wait_for_state("deferred")
        time.sleep(max(0.0, journey.requests_to("execute")[0].at + 4 - time.time()))
        bring_deferral_timeout_forward(own_airflow, journey.run_id)

        assert journey.wait_for_end() == "failed"
    finally:
        own_airflow.triggerer.start()
    assert journey.statuses == ["canceled"]
    assert len(journey.requests_to("cancelExecution")) == len(journey.requests_to("execute")) == 1
    assert_timeout_in_log(journey, "was cancelled")


def bring_deferral_timeout_forward(airflow: LocalAirflow, run_id: str) -> None:
    """Skip the minutes between the operator's deadline and Airflow's deferral timeout."""
    moved = execute(
        airflow.database,
        "UPDATE task_instance SET trigger_timeout = start_date"
        " WHERE run_id = :run_id AND state = 'deferred' RETURNING id",
        run_id=run_id,
    )
    assert len(moved) == 1
