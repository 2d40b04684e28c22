# SPDX-License-Identifier: Apache-2.0
"""Processes of Airflow that stand still for a while start no second execution, and lose none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from airflow_provider_losant.emulator import Fault
from airflow_provider_losant.triggers.notebook import MIN_DEFERRAL
from tests.support.journey import ENDLESS, SHORT, Journey, wait_for_late_requests

if TYPE_CHECKING:
    from tests.support.local_airflow import LocalAirflow


def test_a_worker_that_wakes_up_after_its_task_was_retried_does_not_cancel_the_execution(
    journey: Journey,
) -> None:
    journey.start("retrying", ENDLESS)
    journey.wait_for_poll()
    task = psutil.Process(journey.task["pid"])
    worker = [task.parent(), task]

    with suspended(*worker):
        journey.wait_for_state("running", try_number=2)
        journey.wait_for_poll()

    journey.wait_until(lambda: "this process stood still" in journey.log(1), "the old try to be killed")
    wait_for_late_requests()
    assert journey.statuses == ["inProgress"]
    journey.let_it_complete()
    assert journey.wait_for_end() == "success"
    assert journey.result["execution_id"] == journey.executions[0]["id"]
    assert journey.statuses == ["completed"]
    assert journey.requests_to("cancelExecution") == []
    assert len(journey.requests_to("execute")) == 1
    assert "Not cancelling the execution" in journey.log(1)


@pytest.mark.xdist_group("stopped-airflow")
def test_on_a_busy_machine_the_result_is_not_delivered_before_the_scheduler_notices_the_deferral(
    own_airflow: LocalAirflow, own_journey: Journey
) -> None:
    journey = own_journey
    # Without the wait the scheduler might notice the deferral before it is suspended.
    journey.losant.inject("notebook.execute", Fault("slow", seconds=6))
    journey.start("deferred", SHORT, waits=False)
    journey.wait_for_state("running")

    # Not its children, of which one is the worker.
    with suspended(psutil.Process(own_airflow.scheduler.pid)):
        with suspended(psutil.Process(own_airflow.triggerer.pid)):
            journey.wait_for_state("deferred")
            time.sleep(6)
        time.sleep(2 * MIN_DEFERRAL)

    assert journey.wait_for_end() == "success"
    assert journey.result["execution_id"] == journey.executions[0]["id"]
    assert len(journey.requests_to("execute")) == 1


@contextmanager
def suspended(*processes: psutil.Process) -> Iterator[None]:
    """Stop processes for a while, as a busy machine does."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()
