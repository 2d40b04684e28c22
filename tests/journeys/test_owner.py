# SPDX-License-Identifier: Apache-2.0
"""A task reconnects to executions of its own only: not to those from before a clear or of a deleted run."""

from __future__ import annotations

import re
from signal import SIGKILL
from typing import TYPE_CHECKING

import pytest

from airflow_provider_losant.emulator import Fault, Script

if TYPE_CHECKING:
    from tests.support.journey import Journey

LONG_ENOUGH = 10.0
"""Seconds of an execution whose task is killed and retried meanwhile."""


@pytest.mark.parametrize("is_answered", [True, False], ids=["answered", "response lost"])
def test_a_dag_run_that_was_deleted_and_created_again_gets_the_result_of_its_own_execution(
    journey: Journey, is_answered: bool
) -> None:
    run_id = f"recreated-{journey.conn_id}"
    journey.start("retrying", run_id=run_id)
    assert journey.wait_for_end() == "success"
    wait_for_executor_event(journey)
    journey.delete_run()
    if not is_answered:
        # The log does not show the new execution yet when the retry searches for it.
        journey.losant.switches.listing_lag = 4.0
        journey.losant.inject("notebook.execute", Fault("slow", seconds=30, processed=True))

    journey.start("retrying", Script(notebook=LONG_ENOUGH), run_id=run_id)
    journey.wait_until(lambda: len(journey.executions) > 1, "the execution of the new DAG run")
    if is_answered:
        journey.wait_for_poll()
    journey.signal(SIGKILL)

    journey.wait_for_state("success", "failed", try_number=2)
    assert journey.wait_for_end() == "success"
    assert journey.result["execution_id"] == journey.executions[1]["id"]
    assert journey.statuses == ["completed", "completed"]
    assert len(journey.requests_to("execute")) == 2
    assert journey.requests_to("cancelExecution") == []


def test_a_cleared_task_runs_the_notebook_again_although_its_dag_has_fewer_retries_now(
    journey: Journey,
) -> None:
    edit_dag(journey, retries=3)
    journey.start("changing")
    assert journey.wait_for_end() == "success"
    assert journey.task["max_tries"] == 3
    edit_dag(journey, retries=2)

    journey.clear()

    assert journey.wait_for_end() == "success"
    task = journey.task
    assert (task["try_number"], task["max_tries"]) == (2, 3)
    assert journey.result["execution_id"] == journey.executions[1]["id"]
    assert journey.statuses == ["completed", "completed"]
    assert len(journey.requests_to("execute")) == 2


def wait_for_executor_event(journey: Journey) -> None:
    """
    Wait until the scheduler knows that the task's process has ended.

    It would take a later event for that of the new task instance, which has the same names.
    """
    log = journey.airflow.home / "components" / "scheduler.log"
    events = re.compile(f"Received executor event with state success .*{journey.run_id}")
    journey.wait_until(lambda: events.search(log.read_text()), "the executor's event")


def edit_dag(journey: Journey, *, retries: int) -> None:
    """Change the retries in a DAG file, and wait until Airflow has parsed it again."""
    airflow, dag_id = journey.airflow, "journey_changing"
    (airflow.home / "retries").write_text(str(retries))
    airflow.wait_for_dag(dag_id)
    token = airflow.request("GET", f"/dags/{dag_id}/details")["file_token"]
    airflow.request("PUT", f"/parseDagFile/{token}")
    journey.wait_until(
        lambda: airflow.request("GET", f"/dags/{dag_id}/tasks/run")["retries"] == retries,
        "the DAG file to be parsed again",
    )
