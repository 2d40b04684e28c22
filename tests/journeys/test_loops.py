# SPDX-License-Identifier: Apache-2.0
"""A notebook in a loop (Airflow 3.4): each iteration has an execution of its own."""

from __future__ import annotations

import os
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.emulator import Fault, Script
from tests.journeys.dags.loops import ITERATIONS
from tests.support.journey import SHORT, Journey

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.every_airflow, pytest.mark.airflow(since="3.4")]
VARIANTS = pytest.mark.parametrize("variant", ["looped", "looped_deferred"], ids=["waiting", "deferred"])
LONG = Script(notebook=4.0)
"""Long enough to change meanwhile what the next execution does."""


def iterations(journey: Journey) -> list[dict[str, Any]]:
    """Return the task instances of the latest pass, by iteration."""
    found = journey.airflow.task_instances(journey.dag_id, journey.run_id)
    return sorted((it for it in found if it["task_id"] == "run"), key=lambda it: it["region_index"])


def results(journey: Journey) -> list[str]:
    """Return the ids of the executions whose results a task outside the loop gets."""
    return list(journey.airflow.xcom(journey.dag_id, journey.run_id, "collect"))


def wait_for_execution(journey: Journey, count: int) -> None:
    journey.wait_until(lambda: len(journey.executions) >= count, f"execution {count}")


def ids(journey: Journey) -> Sequence[str]:
    return [it["id"] for it in journey.executions]


@VARIANTS
@pytest.mark.parametrize("is_answered", [True, False], ids=["answered", "response lost"])
def test_the_retry_of_an_iteration_whose_worker_was_killed_reconnects_to_its_own_execution(
    journey: Journey, variant: str, *, is_answered: bool
) -> None:
    journey.start(variant, LONG)
    journey.losant.script(journey.notebook_id, Script(notebook=15.0))
    if not is_answered:
        journey.losant.inject("notebook.execute", Fault("slow", seconds=20, processed=True))
    wait_for_execution(journey, 2)
    journey.losant.script(journey.notebook_id, SHORT)
    kill_worker_of(journey, 1)

    assert journey.wait_for_end() == "success"
    assert results(journey) == ids(journey)
    assert journey.statuses == ["completed"] * ITERATIONS
    assert len(journey.requests_to("execute")) == ITERATIONS
    assert journey.requests_to("cancelExecution") == []


def kill_worker_of(journey: Journey, index: int) -> None:
    """Kill the worker process of an iteration, unless its task was deferred before."""

    def settled() -> dict[str, Any] | None:
        found = [it for it in iterations(journey) if it["region_index"] == index]
        return next((it for it in found if it["state"] in {"running", "deferred"}), None)

    task = journey.wait_until(settled, f"iteration {index} to run")
    if task["state"] == "running":
        os.kill(task["pid"], SIGKILL)


@VARIANTS
def test_the_retry_of_an_iteration_whose_notebook_failed_returns_a_result_of_its_own(
    journey: Journey, variant: str
) -> None:
    journey.start(variant, LONG)
    journey.losant.script(journey.notebook_id, Script(notebook=0.1, ending="errored"))
    wait_for_execution(journey, 2)
    journey.losant.script(journey.notebook_id, SHORT)

    assert journey.wait_for_end() == "success"
    assert journey.statuses == ["completed", "errored", "completed", "completed"]
    executions = ids(journey)
    assert results(journey) == [executions[0], *executions[2:]]
    assert journey.requests_to("cancelExecution") == []


@VARIANTS
@pytest.mark.parametrize("what", ["the loop", "its task", "one iteration"])
def test_each_cleared_iteration_has_exactly_one_new_execution(
    journey: Journey, variant: str, what: str
) -> None:
    journey.start(variant)
    assert journey.wait_for_end() == "success"
    before = ids(journey)
    middle = iterations(journey)[1]

    selections: dict[str, dict[str, Any]] = {
        "the loop": {"task_group_id": "passes"},
        "its task": {"task_ids": ["run"]},
        "one iteration": {"task_instance_ids": [middle["id"]], "include_later_loop_iterations": False},
    }
    clear(journey, selections[what])

    new = 1 if what == "one iteration" else ITERATIONS
    wait_for_execution(journey, ITERATIONS + new)
    assert journey.wait_for_end() == "success"
    assert journey.statuses == ["completed"] * (ITERATIONS + new)
    executions = {it["region_index"]: execution_id(journey, it) for it in iterations(journey)}
    kept = [index for index, found in executions.items() if found in before]
    assert kept == ([0, 2] if what == "one iteration" else [])
    assert len(set(executions.values())) == ITERATIONS
    assert len(journey.requests_to("execute")) == ITERATIONS + new
    assert journey.requests_to("cancelExecution") == []


def clear(journey: Journey, selected: dict[str, Any]) -> None:
    body = {"dry_run": False, "only_failed": False, "dag_run_id": journey.run_id, **selected}
    journey.airflow.request("POST", f"/dags/{journey.dag_id}/clearTaskInstances", json=body)


def execution_id(journey: Journey, task: dict[str, Any]) -> str:
    """Return the execution that an iteration's task has as its result."""
    path = f"/dags/{journey.dag_id}/dagRuns/{journey.run_id}/taskInstances/run/xcomEntries/return_value"
    place = {"region_id": task["region_id"], "region_index": task["region_index"], "stringify": "false"}
    return str(journey.airflow.request("GET", path, params=place)["value"]["execution_id"])
