# SPDX-License-Identifier: Apache-2.0
"""
Stopping a task cancels its execution; stopping a triggerer does not.

Marking and clearing a waiting task are in ``test_marking``.
"""

from __future__ import annotations

import time
from signal import SIGKILL, SIGTERM, Signals
from typing import TYPE_CHECKING, Literal

import pytest

from airflow_provider_losant.emulator import Fault, Script
from tests.support.journey import ENDLESS, Journey, wait_for_late_requests

if TYPE_CHECKING:
    from tests.support.local_airflow import LocalAirflow

CANCEL_BUDGET = 4.0
"""Seconds within which a task that gets SIGTERM has to cancel, before SIGKILL."""
SILENCE = 20.0
"""Seconds without a response to a submission: longer than Airflow takes to stop a task that was marked."""


def assert_cancelled_once(journey: Journey) -> None:
    """Check that the only execution was cancelled by one request, and that no other one was submitted."""
    journey.wait_until(lambda: journey.requests_to("cancelExecution"), "a cancel")
    wait_for_late_requests()
    assert journey.statuses == ["canceled"]
    assert journey.cancelled() == [journey.executions[0]["id"]]
    assert len(journey.requests_to("cancelExecution")) == 1
    assert len(journey.requests_to("execute")) == 1


@pytest.mark.every_airflow
def test_sigterm_to_a_waiting_task_cancels_its_execution_once(journey: Journey) -> None:
    journey.start("waiting", ENDLESS)
    journey.wait_for_poll()

    journey.signal(SIGTERM)

    assert_cancelled_once(journey)
    assert journey.wait_for_end() == "failed"
    assert journey.result is None


def test_sigterm_while_a_poll_hangs_cancels_the_execution_before_sigkill(
    journey: Journey,
) -> None:
    journey.start("waiting", ENDLESS)
    journey.wait_for_poll()
    polls = len(journey.requests_to("logs"))
    journey.losant.inject("notebook.logs", Fault("hang", seconds=60))
    journey.wait_until(lambda: len(journey.requests_to("logs")) > polls, "a poll that hangs")

    killed_at = time.time()
    journey.signal(SIGTERM)

    assert_cancelled_once(journey)
    assert journey.requests_to("cancelExecution")[0].at - killed_at < CANCEL_BUDGET
    # The interrupted poll lasts until its timeout. Whether Airflow waits for that does not matter here.
    journey.mark("failed")


@pytest.mark.every_airflow
def test_the_retry_of_a_terminated_task_submits_again_when_its_execution_was_cancelled(
    journey: Journey,
) -> None:
    journey.start("retrying", ENDLESS)
    journey.wait_for_poll()
    journey.losant.script(journey.notebook_id, Script())

    journey.signal(SIGTERM)

    journey.wait_for_state("success", "failed", try_number=2)
    assert journey.wait_for_end() == "success"
    assert journey.statuses == ["canceled", "completed"]
    assert journey.result["execution_id"] == journey.executions[1]["id"]
    first = journey.executions[0]
    assert journey.cancelled() == [first["id"]]
    assert journey.requests_to("cancelExecution")[0].at < journey.requests_to("execute")[1].at
    assert len(journey.requests_to("execute")) == 2


@pytest.mark.parametrize(
    "processed",
    [
        pytest.param(True, id="taken", marks=pytest.mark.every_airflow),
        pytest.param(False, id="not yet taken"),
    ],
)
@pytest.mark.parametrize("variant", ["waiting", "deferred"])
def test_a_kill_during_the_submission_cancels_the_execution_once(
    journey: Journey, variant: str, processed: bool
) -> None:
    journey.losant.inject("notebook.execute", Fault("slow", seconds=2.5, processed=processed))
    journey.start(variant, ENDLESS)

    journey.signal(SIGTERM)

    assert_cancelled_once(journey)
    assert journey.wait_for_end() == "failed"


@pytest.mark.parametrize("mark", ["failed", "success"])
def test_marking_a_task_during_the_submission_cancels_the_execution(journey: Journey, mark: str) -> None:
    journey.losant.inject("notebook.execute", Fault("slow", seconds=3, processed=True))
    journey.start("waiting", ENDLESS)

    journey.mark(mark)

    assert_cancelled_once(journey)
    assert journey.wait_for_end() == mark


@pytest.mark.every_airflow
@pytest.mark.parametrize(("variant", "fault"), [("waiting", "slow"), ("deferred", "hang")])
def test_marking_a_task_that_gets_no_submit_response_cancels_the_execution_before_sigkill(
    journey: Journey, variant: str, fault: Literal["slow", "hang"]
) -> None:
    journey.losant.inject("notebook.execute", Fault(fault, seconds=SILENCE, processed=True))
    journey.start(variant, ENDLESS)
    time.sleep(1)

    journey.mark("failed")

    assert_cancelled_once(journey)
    assert journey.wait_for_end() == "failed"
    (submitted,) = journey.requests_to("execute")
    (cancelled,) = journey.requests_to("cancelExecution")
    assert cancelled.at < submitted.at + SILENCE
    # The task searches the log when it gets SIGTERM, and never else before it has a response.
    assert cancelled.at - journey.requests_to("logs")[0].at < CANCEL_BUDGET


def test_a_kill_after_a_lost_submit_response_cancels_the_execution(journey: Journey) -> None:
    journey.losant.inject("notebook.execute", Fault("reset_after"))
    journey.losant.inject("notebook.logs", Fault("slow", seconds=2))
    journey.start("waiting", ENDLESS)
    journey.wait_until(lambda: journey.requests_to("logs"), "a search for the lost execution")

    journey.signal(SIGTERM)

    assert_cancelled_once(journey)
    assert journey.wait_for_end() == "failed"


@pytest.mark.parametrize("mark", ["failed", "success"])
@pytest.mark.parametrize(("variant", "waiting"), [("keeping", "running"), ("keeping_deferred", "deferred")])
def test_without_cancel_on_kill_a_mark_leaves_the_execution_running(
    journey: Journey, variant: str, waiting: str, mark: str
) -> None:
    journey.start(variant, ENDLESS)
    journey.wait_for_state(waiting)
    journey.wait_for_poll()

    journey.mark(mark)

    assert journey.wait_for_end() == mark
    wait_for_late_requests()
    assert journey.statuses == ["inProgress"]
    assert journey.requests_to("cancelExecution") == []
    assert len(journey.requests_to("execute")) == 1


def test_without_cancel_on_kill_the_retry_of_a_terminated_task_reconnects(
    journey: Journey,
) -> None:
    journey.start("keeping_retrying", Script(notebook=10))
    journey.wait_for_poll()

    journey.signal(SIGTERM)

    journey.wait_for_state("success", "failed", try_number=2)
    assert journey.wait_for_end() == "success"
    assert journey.result["execution_id"] == journey.executions[0]["id"]
    assert journey.statuses == ["completed"]
    assert journey.requests_to("cancelExecution") == []
    assert len(journey.requests_to("execute")) == 1


@pytest.mark.every_airflow
@pytest.mark.parametrize("number", [SIGTERM, SIGKILL], ids=lambda number: str(number.name))
@pytest.mark.xdist_group("stopped-airflow")
def test_a_triggerer_that_ends_cancels_nothing_and_the_next_one_continues_the_wait(
    own_airflow: LocalAirflow, own_journey: Journey, number: Signals
) -> None:
    journey = own_journey
    journey.start("deferred", ENDLESS)
    journey.wait_for_state("deferred")
    journey.wait_for_poll()

    if number is SIGKILL:
        own_airflow.triggerer.kill()
    else:
        own_airflow.triggerer.stop(grace=10)
    wait_for_late_requests()
    assert journey.task["state"] == "deferred"
    own_airflow.triggerer.start()
    journey.wait_for_poll()
    journey.let_it_complete()

    assert journey.wait_for_end() == "success"
    assert journey.result["execution_id"] == journey.executions[0]["id"]
    assert journey.statuses == ["completed"]
    assert journey.requests_to("cancelExecution") == []
    assert len(journey.requests_to("execute")) == 1
