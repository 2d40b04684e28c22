# SPDX-License-Identifier: Apache-2.0
"""A worker that stood still, and was given up by Airflow, leaves the execution to the retry."""

from __future__ import annotations

import psutil

from tests.support.journey import ENDLESS, Journey, wait_for_late_requests


def test_a_worker_that_wakes_up_after_its_task_was_retried_does_not_cancel_the_execution(
    journey: Journey,
) -> None:
    journey.start("retrying", ENDLESS)
    journey.wait_for_poll()
    task = psutil.Process(journey.task["pid"])
    worker = [task.parent(), task]

    for process in worker:
        process.suspend()
    try:
        journey.wait_for_state("running", try_number=2)
        journey.wait_for_poll()
    finally:
        for process in worker:
            process.resume()

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
