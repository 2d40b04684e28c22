# SPDX-License-Identifier: Apache-2.0
"""DAGs start when a notebook has run, whether a task or a user ran it, and get the execution's id."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from airflow_provider_losant.emulator import Script
from tests.support.airflow_connection import execute
from tests.support.journey import SHORT, wait_for_late_requests
from tests.support.processes import wait_for

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator
    from tests.support.local_airflow import LocalAirflow

pytestmark = pytest.mark.xdist_group("other-airflow")

BATTERY_HEALTH = "67b3a90ce5b1a2000d6f5e37"
PRODUCER, CONSUMER = "losant_check_batteries", "losant_plan_visits"
ENERGY_REPORT = "67a2f1b4e5b1a2000d6f4c21"
WATCHER = "losant_react_to_notebook"


@pytest.fixture
def losant(scheduling_losant: Emulator) -> Emulator:
    return scheduling_losant


@pytest.fixture
def airflow(scheduling_airflow: LocalAirflow) -> LocalAirflow:
    return scheduling_airflow


def test_a_dag_that_depends_on_a_notebook_starts_when_an_execution_has_ended(
    airflow: LocalAirflow, losant: Emulator
) -> None:
    losant.script(BATTERY_HEALTH, SHORT)
    for dag_id in (PRODUCER, CONSUMER):
        airflow.wait_for_dag(dag_id)
        airflow.unpause(dag_id)

    began, started = first_run(airflow, PRODUCER), first_run(airflow, CONSUMER)

    assert airflow.wait_for_run(CONSUMER, started, timeout=90) == "success"
    execution_id = airflow.xcom(PRODUCER, began, "check")["execution_id"]
    assert airflow.xcom(CONSUMER, started, "plan") == [execution_id]
    (event,) = airflow.request("GET", "/assets/events")["asset_events"]
    assert event["extra"]["execution_id"] == execution_id
    assert event["extra"]["durations"]["total"] > 0
    assert losant.files_url not in json.dumps(event)


def first_run(airflow: LocalAirflow, dag_id: str) -> str:
    """Wait for the first run of a DAG and return its id."""
    wait_for(lambda: airflow.dag_runs(dag_id), what=f"{dag_id} to start", timeout=120)
    return str(airflow.dag_runs(dag_id)[0]["dag_run_id"])


def test_every_execution_starts_one_dag_run_though_the_triggerer_is_killed(
    airflow: LocalAirflow, losant: Emulator
) -> None:
    airflow.wait_for_dag(WATCHER)
    losant.script(ENERGY_REPORT, SHORT)
    airflow.unpause(WATCHER)
    wait_for(lambda: checkpoint(airflow) is not None, what="the notebook to be watched", timeout=60)

    runs = [run(losant) for _ in range(3)]
    slow = [run(losant, Script(notebook=seconds)) for seconds in (40.0, 20.0)]  # the later one ends first
    wait_for(lambda: checkpoint(airflow) == set(runs), what="three to be delivered", timeout=90)
    airflow.triggerer.kill()
    runs += [run(losant) for _ in range(3)]
    wait_for(lambda: ended(losant) >= len(runs), what="some to end while no trigger runs", timeout=30)
    airflow.triggerer.start()
    runs += [run(losant) for _ in range(2)] + slow

    wait_for(lambda: len(airflow.dag_runs(WATCHER)) >= len(runs), what="ten DAG runs", timeout=150)
    wait_for_late_requests()  # an eleventh would start now
    delivered = [triggered_by(airflow, it["dag_run_id"]) for it in airflow.dag_runs(WATCHER)]
    assert sorted(delivered) == sorted([it] for it in runs)
    assert delivered.index([slow[1]]) < delivered.index([slow[0]])


def run(losant: Emulator, script: Script = SHORT) -> str:
    """Run the notebook without Airflow."""
    losant.script(ENERGY_REPORT, script)
    return execute(losant, ENERGY_REPORT)


def ended(losant: Emulator) -> int:
    return sum(it["status"] == "completed" for it in losant.executions(ENERGY_REPORT))


def checkpoint(airflow: LocalAirflow) -> set[str] | None:
    """Return the executions in the stored checkpoint; None before the first poll."""
    (asset,) = airflow.request("GET", f"/assets?uri_pattern={ENERGY_REPORT}")["assets"]
    stored = airflow.request("GET", f"/assets/{asset['id']}/state-store")["asset_state_store"]
    return set(stored[0]["value"]["delivered"]) if stored else None


def triggered_by(airflow: LocalAirflow, run_id: str) -> list[str]:
    """Return the executions in the asset events that started a DAG run."""
    path = f"/dags/{WATCHER}/dagRuns/{run_id}/upstreamAssetEvents"
    return [it["extra"]["payload"]["execution_id"] for it in airflow.request("GET", path)["asset_events"]]
