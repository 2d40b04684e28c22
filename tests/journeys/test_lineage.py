# SPDX-License-Identifier: Apache-2.0
"""Airflow's OpenLineage listener emits events for notebooks that real processes have run."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.emulator import Script
from example_dags.demo.checks import DATA_INTERVAL, REPORT_DAG, REPORT_NOTEBOOK, expected_energy
from tests.support.openlineage_events import read_events
from tests.support.processes import wait_for

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator
    from tests.support.local_airflow import LocalAirflow

pytestmark = pytest.mark.xdist_group("other-airflow")

TASK, NOTEBOOK = f"{REPORT_DAG}.report", f"/notebooks/{REPORT_NOTEBOOK}"
BROKEN = Script(notebook=0.1, ending="errored", errors=(("ValueError", "no readings"),))


@pytest.fixture
def losant(scheduling_losant: Emulator) -> Emulator:
    """Return the Losant, which runs the notebook itself, whatever other tests have scripted."""
    scheduling_losant.script(REPORT_NOTEBOOK, None)
    scheduling_losant.clear_requests()
    return scheduling_losant


@pytest.fixture
def airflow(scheduling_airflow: LocalAirflow) -> LocalAirflow:
    """Return the Airflow whose OpenLineage provider writes files."""
    scheduling_airflow.wait_for_dag(REPORT_DAG)
    scheduling_airflow.unpause(REPORT_DAG)
    return scheduling_airflow


def is_of_the_report(job: str) -> bool:
    """Return whether a job is the task or its notebook, by the name; other DAGs emit events, too."""
    return job == TASK or job.endswith(NOTEBOOK)


def endings(airflow: LocalAirflow, state: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """
    Wait for the events of all tasks and executions that ended in a state, and return both.

    A task emits its event after it has reported its end to Airflow.
    """
    sites = len(expected_energy())

    def emitted() -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
        try:
            events = read_events(*sorted(airflow.home.glob("event*.json")), is_wanted=is_of_the_report)
        except json.JSONDecodeError:  # one is being written
            return None
        ended = [it for it in events if it["eventType"] == state]
        tasks = [it for it in ended if it["job"]["name"] == TASK]
        notebooks = [it for it in ended if it["job"]["name"].endswith(NOTEBOOK)]
        return (tasks, notebooks) if len(tasks) == len(notebooks) == sites else None

    return wait_for(emitted, what=f"{sites} events of tasks and notebooks with {state}", timeout=120)


def run(airflow: LocalAirflow, *, day: int) -> str:
    """Run the DAG for a day of the sample data, and return the state in which it ended."""
    first, last = (at + timedelta(days=day) for at in DATA_INTERVAL)
    run_id = airflow.trigger(REPORT_DAG, logical_date=last, data_interval=(first, last))
    return airflow.wait_for_run(REPORT_DAG, run_id, timeout=240)


@pytest.mark.kernel
def test_each_deferred_task_emits_events_of_its_execution_as_a_child_run(
    airflow: LocalAirflow, losant: Emulator
) -> None:
    assert run(airflow, day=0) == "success"

    tasks, notebooks = endings(airflow, "COMPLETE")
    path = f"{losant.application_id}/notebooks/{REPORT_NOTEBOOK}"
    task_runs = {it["run"]["runId"] for it in tasks}
    assert {it["job"]["name"] for it in notebooks} == {path}
    assert {it["run"]["facets"]["parent"]["run"]["runId"] for it in notebooks} == task_runs
    for event in (*notebooks, *tasks):
        assert [it["name"] for it in event["inputs"]] == [f"{losant.application_id}/devices"]
        assert f"{path}/outputs/energy-per-hour.csv" in {it["name"] for it in event["outputs"]}
    for variables in sent_to_notebooks(losant):
        assert variables["OPENLINEAGE_PARENT_ID"].rpartition("/")[2] in task_runs


def test_each_deferred_task_that_fails_emits_the_error_of_its_notebook(
    airflow: LocalAirflow, losant: Emulator
) -> None:
    losant.script(REPORT_NOTEBOOK, BROKEN)

    assert run(airflow, day=-1) == "failed"

    tasks, notebooks = endings(airflow, "FAIL")
    assert {it["run"]["facets"]["errorMessage"]["message"] for it in notebooks} == {"ValueError: no readings"}
    assert all("losant_execution" in it["run"]["facets"] for it in (*tasks, *notebooks))
    secrets = (losant.token, losant.files_url)
    written = "".join(path.read_text() for path in airflow.home.glob("event*.json"))
    assert not [it for it in secrets if it in written]


def sent_to_notebooks(losant: Emulator) -> list[dict[str, str]]:
    """Return the OpenLineage variables that each submission has sent to its notebook."""
    submissions = [it.body for it in losant.requests if it.operation == "notebook.execute"]
    return [json.loads(it["templateContext"])["airflow"]["openlineage"] for it in submissions]
