# SPDX-License-Identifier: Apache-2.0
"""The orphan sweep cancels the executions of tasks that were stopped unnoticed, and no others."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.emulator import Fault
from tests.support.airflow_connection import execute
from tests.support.journey import ENDLESS, Journey, RunningAirflow, wait_for_late_requests

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator
    from tests.support.local_airflow import LocalAirflow


PATIENCE = 6.0
"""Seconds without another attempt to cancel, after which there will be none."""


class DagRun:
    """One of several DAG runs of a journey."""

    def __init__(self, journey: Journey, variant: str, state: str) -> None:
        self.journey = journey
        before = {it["id"] for it in journey.executions}
        journey.start(variant, ENDLESS)
        self.dag_id, self.run_id = journey.dag_id, journey.run_id
        (new,) = journey.wait_until(
            lambda: [it for it in journey.executions if it["id"] not in before], f"the execution of {variant}"
        )
        self.execution_id = new["id"]
        journey.wait_for_state(state)

    def mark(self, state: str) -> None:
        """Mark the task, as its button does."""
        self.journey.airflow.set_task_state(self.dag_id, self.run_id, "run", state)

    def marker(self) -> dict[str, Any]:
        """Return the marker in the execution's context."""
        (context,) = (
            it["templateContext"] for it in self.journey.executions if it["id"] == self.execution_id
        )
        found: dict[str, Any] = json.loads(context)["airflow"]
        return found


def mark_while_no_cancel_succeeds(journey: Journey, run: DagRun) -> None:
    """Mark a task as failed, and wait until it has given up to cancel its execution."""
    journey.losant.inject("notebook.cancelExecution", Fault("server_error"), times=50)
    before = len(journey.requests_to("cancelExecution"))
    run.mark("failed")

    def has_given_up() -> bool:
        cancels = journey.requests_to("cancelExecution")[before:]
        return bool(cancels) and time.time() - cancels[-1].at > PATIENCE

    journey.wait_until(has_given_up, "the last attempt to cancel")
    journey.losant.clear_faults()
    assert statuses(journey)[run.execution_id] == "inProgress"


def sweep(journey: Journey, dag_id: str = "journey_sweep") -> dict[str, Any]:
    """Run a DAG that sweeps, and return its report."""
    journey.start(dag_id.removeprefix("journey_"), ENDLESS, waits=False)
    assert journey.wait_for_end() == "success", journey.log()
    report: dict[str, Any] = journey.result
    return report


def statuses(journey: Journey) -> dict[str, str]:
    """Map the id of each execution to its status."""
    return {it["id"]: it["status"] for it in journey.executions}


def execute_as(journey: Journey, marker: dict[str, Any] | None) -> str:
    """Start an execution with the marker of another Airflow, or without one."""
    options = {"templateContext": json.dumps({"airflow": marker})} if marker else {}
    return execute(journey.losant, journey.notebook_id, **options)


def test_the_sweep_cancels_no_execution_that_a_task_waits_for_or_may_outlive_its_task_or_is_not_ours(
    journey: Journey,
) -> None:
    waiting = DagRun(journey, "waiting", "running")
    deferred = DagRun(journey, "deferred", "deferred")
    unawaited = DagRun(journey, "unawaited", "success")
    keeping = DagRun(journey, "keeping", "running")
    keeping.mark("failed")
    marker = waiting.marker()
    elsewhere = {"deployment": "https://other.example", "dag_run_start": "2026-01-01T00:00:00+00:00"}
    others = [
        execute_as(journey, marker | elsewhere | {"run_id": "manual__of_another_airflow"}),
        execute_as(journey, marker | elsewhere),
        execute_as(journey, marker | elsewhere | {"deployment": ""}),
        execute_as(journey, None),
    ]

    report = sweep(journey)

    assert report["cancelled"] == []
    assert report["checked"] == 8
    assert report["left"] == {
        "its task is running": 1,
        "its task is deferred": 1,
        "may outlive its task": 2,
        "submitted by another Airflow": 2,
        "its Airflow is unknown; set [api] base_url": 1,
        "not submitted by Airflow": 1,
    }
    assert set(statuses(journey).values()) == {"inProgress"}
    assert journey.requests_to("cancelExecution") == []
    assert {unawaited.execution_id, keeping.execution_id, *others} <= statuses(journey).keys()
    for run in (waiting, deferred):
        run.mark("failed")


def test_an_execution_whose_cancel_was_lost_is_cancelled_by_the_sweep(journey: Journey) -> None:
    for variant, state in (("waiting", "running"), ("deferred", "deferred")):
        run = DagRun(journey, variant, state)
        journey.wait_for_poll()
        mark_while_no_cancel_succeeds(journey, run)

    report = sweep(journey)

    assert sorted(report["cancelled"]) == sorted(statuses(journey))
    assert set(statuses(journey).values()) == {"canceled"}
    assert sorted(journey.cancelled()) == sorted(statuses(journey))
    assert sweep(journey)["checked"] == 0


def test_the_sweep_does_not_cancel_a_young_execution(journey: Journey) -> None:
    run = DagRun(journey, "waiting", "running")
    mark_while_no_cancel_succeeds(journey, run)

    journey.start("sweep_patient", ENDLESS, waits=False)

    assert journey.wait_for_end() == "success"
    assert journey.result["left"] == {"younger than min_age": 1}
    assert statuses(journey)[run.execution_id] == "inProgress"


@pytest.mark.xdist_group("examples")
def test_the_example_sweeps_all_notebooks_of_the_connection(
    airflow: RunningAirflow, losant: Emulator
) -> None:
    airflow.wait_for_dag("losant_orphan_sweep")
    airflow.unpause("losant_orphan_sweep")

    run_id = airflow.trigger("losant_orphan_sweep")

    assert airflow.wait_for_run("losant_orphan_sweep", run_id, timeout=60) == "success"
    report = airflow.xcom("losant_orphan_sweep", run_id, "sweep")
    assert set(report) == {"checked", "cancelled", "left", "incomplete"}
    looked = {it.path for it in losant.requests if it.headers["user-agent"].startswith("airflow-provider")}
    assert len([path for path in looked if path.endswith("/logs")]) >= 2


def test_the_execution_of_a_task_marked_while_it_defers_is_not_running_after_a_sweep(
    journey: Journey,
) -> None:
    journey.losant.inject("notebook.execute", Fault("slow", seconds=0.7))
    journey.start("deferred", ENDLESS)
    journey.mark("failed")
    journey.wait_until(lambda: journey.executions, "an execution")
    assert journey.wait_for_end() == "failed"
    wait_for_late_requests()

    sweep(journey)

    assert journey.statuses == ["canceled"]
    assert journey.cancelled() == [journey.executions[0]["id"]]


@pytest.mark.xdist_group("stopped-airflow")
def test_what_was_marked_or_cleared_while_no_triggerer_ran_is_cancelled_once_by_the_next_or_by_the_sweep(
    own_airflow: LocalAirflow, own_journey: Journey
) -> None:
    journey = own_journey
    own_airflow.triggerer.kill()
    try:
        failed, succeeded, cleared, left = (DagRun(journey, "deferred", "deferred") for _ in range(4))
        failed.mark("failed")
        succeeded.mark("success")
        # A paused DAG does not start the cleared task again, so no next try cancels the execution.
        pause(journey, "journey_deferred", paused=True)
        journey.airflow.clear(cleared.dag_id, cleared.run_id, "run")
    finally:
        own_airflow.triggerer.start()
    journey.wait_for_poll()
    wait_for_late_requests()

    report = sweep(journey)

    orphans = sorted(run.execution_id for run in (failed, succeeded, cleared))
    assert sorted(journey.cancelled()) == orphans
    # Clearing deletes its trigger, so the next triggerer does not load it.
    assert cleared.execution_id in report["cancelled"]
    assert report["left"] == {"its task is deferred": 1}
    assert statuses(journey)[left.execution_id] == "inProgress"
    left.mark("failed")
    pause(journey, "journey_deferred", paused=False)


def pause(journey: Journey, dag_id: str, *, paused: bool) -> None:
    """Pause or unpause a DAG."""
    journey.airflow.request("PATCH", f"/dags/{dag_id}", json={"is_paused": paused})
