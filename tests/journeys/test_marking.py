# SPDX-License-Identifier: Apache-2.0
"""What people do to a task in Airflow's web pages while its notebook runs, and what Losant sees of it."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from airflow_provider_losant.emulator import Emulator, Request, Script
from example_dags.demo.processes import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from example_dags.demo.airflow import LocalAirflow

SETTLED = 2.0
"""Seconds after which a second cancel, if there were one, would have come."""

WAYS_TO_WAIT = pytest.mark.parametrize(
    ("dag_id", "waiting"), [("journey_waiting", "running"), ("journey_deferrable", "deferred")]
)


def seen(losant: Emulator, notebook_id: str, operation: str) -> Sequence[Request]:
    """Return the requests of one operation that Losant has seen for a notebook."""
    return [it for it in losant.requests if it.operation == operation and notebook_id in it.path]


def start(airflow: LocalAirflow, losant: Emulator, dag_id: str, waiting: str) -> tuple[str, str]:
    """Run a DAG until somebody, worker or triggerer, watches its execution; return run id and notebook id."""
    notebook_id = losant.add_notebook(name=dag_id)
    losant.script(notebook_id, Script(notebook=0.1, ending="hang"))
    airflow.wait_for_dag(dag_id)
    airflow.unpause(dag_id)
    run_id = airflow.trigger(dag_id, conf={"notebook_id": notebook_id})
    airflow.wait_for_task(dag_id, run_id, "run", lambda it: bool(it["state"] == waiting))
    wait_until_watched(losant, notebook_id)
    return run_id, notebook_id


def wait_until_watched(losant: Emulator, notebook_id: str) -> None:
    """Wait until whoever watches from now on has looked at the notebook's executions."""
    looks = len(seen(losant, notebook_id, "notebook.logs"))
    wait_for(
        lambda: len(seen(losant, notebook_id, "notebook.logs")) > looks,
        what=f"somebody to watch notebook {notebook_id}",
        timeout=30,
    )


def wait_for_the_one_cancel(losant: Emulator, notebook_id: str, execution_id: str) -> None:
    """Wait for a cancel of this execution, and make sure that it stays the only one."""
    wait_for(
        lambda: len(seen(losant, notebook_id, "notebook.cancelExecution")) > 0,
        what=f"execution {execution_id} to be cancelled",
        timeout=30,
    )
    time.sleep(SETTLED)
    cancels = seen(losant, notebook_id, "notebook.cancelExecution")
    assert [cancel.query["executionId"] for cancel in cancels] == [execution_id]


@pytest.mark.parametrize("mark", ["failed", "success"])
@WAYS_TO_WAIT
def test_marking_a_waiting_task_cancels_its_execution_once(
    airflow: LocalAirflow, losant: Emulator, dag_id: str, waiting: str, mark: str
) -> None:
    run_id, notebook_id = start(airflow, losant, dag_id, waiting)

    airflow.set_task_state(dag_id, run_id, "run", mark)

    (execution,) = losant.executions(notebook_id)
    wait_for_the_one_cancel(losant, notebook_id, execution["id"])
    assert len(seen(losant, notebook_id, "notebook.execute")) == 1
    assert airflow.wait_for_run(dag_id, run_id, timeout=30) == mark


@WAYS_TO_WAIT
def test_clearing_a_waiting_task_cancels_its_execution_once_and_starts_a_fresh_one(
    airflow: LocalAirflow, losant: Emulator, dag_id: str, waiting: str
) -> None:
    run_id, notebook_id = start(airflow, losant, dag_id, waiting)
    (first,) = losant.executions(notebook_id)
    losant.script(notebook_id, Script(notebook=0.1))

    airflow.clear(dag_id, run_id, "run")

    wait_for_the_one_cancel(losant, notebook_id, first["id"])
    if waiting == "running" and version("apache-airflow").startswith("3.0."):
        pytest.skip("Airflow 3.0 never restarts a task that was cleared while running, whatever its operator")
    assert airflow.wait_for_run(dag_id, run_id, timeout=60) == "success"
    assert len(seen(losant, notebook_id, "notebook.execute")) == 2
    assert len(seen(losant, notebook_id, "notebook.cancelExecution")) == 1
    outcome = airflow.xcom(dag_id, run_id, "run")
    assert outcome["execution_id"] == losant.executions(notebook_id)[0]["id"] != first["id"]


def test_marking_one_mapped_task_cancels_its_execution_and_no_other(
    airflow: LocalAirflow, losant: Emulator
) -> None:
    dag_id, notebook_id = "journey_mapped", losant.add_notebook(name="journey_mapped")
    losant.script(notebook_id, Script(notebook=0.1, ending="hang"))
    airflow.wait_for_dag(dag_id)
    airflow.unpause(dag_id)
    run_id = airflow.trigger(dag_id, conf={"notebook_id": notebook_id})
    for map_index in range(3):
        airflow.wait_for_task(
            dag_id, run_id, "run", lambda it: bool(it["state"] == "deferred"), map_index=map_index
        )
    wait_until_watched(losant, notebook_id)
    east = next(it for it in losant.executions(notebook_id) if '"east"' in it["templateContext"])

    airflow.set_task_state(dag_id, run_id, "run", "failed", map_index=1)

    wait_for_the_one_cancel(losant, notebook_id, east["id"])
    states = {it["map_index"]: it["state"] for it in airflow.task_instances(dag_id, run_id)}
    assert states == {0: "deferred", 1: "failed", 2: "deferred"}
    assert len(seen(losant, notebook_id, "notebook.execute")) == 3
    assert len(seen(losant, notebook_id, "notebook.cancelExecution")) == 1
