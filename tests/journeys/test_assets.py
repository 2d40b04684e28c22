# SPDX-License-Identifier: Apache-2.0
"""One DAG starts when another one's notebook has run, and knows which run it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from example_dags.demo.airflow import LocalAirflow
from example_dags.demo.checks import EXAMPLES
from example_dags.demo.processes import wait_for
from tests.journeys.conftest import connection
from tests.journeys.stage import SHORT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_losant.emulator import Emulator

BATTERY_HEALTH = "67b3a90ce5b1a2000d6f5e37"
PRODUCER, CONSUMER = "losant_check_batteries", "losant_plan_visits"
ENVIRONMENT = {"AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True"}
"""Or no DAG would start because of an asset; it also starts the producer's first run by the clock."""


@pytest.fixture(scope="module")
def airflow(losant: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    """Yield an Airflow that starts DAGs by itself."""
    with LocalAirflow(tmp_path_factory.mktemp("assets"), EXAMPLES, env=ENVIRONMENT) as running:
        running.add_connection("losant_default", **connection(losant))
        yield running


def test_a_dag_that_depends_on_a_notebook_starts_with_the_execution_that_has_ended(
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
