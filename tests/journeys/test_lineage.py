# SPDX-License-Identifier: Apache-2.0
"""Airflow's own OpenLineage listener tells of notebooks that real processes have run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.emulator import Script
from example_dags.demo.airflow import LocalAirflow
from example_dags.demo.checks import DATA_INTERVAL, EXAMPLES, REPORT_DAG, REPORT_NOTEBOOK, expected_energy
from tests.journeys.conftest import connection
from tests.provider.lineage import read_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_losant.emulator import Emulator

BROKEN = Script(notebook=0.1, ending="errored", errors=(("ValueError", "no readings"),))


@pytest.fixture(scope="module")
def airflow(losant: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    """Yield an Airflow whose OpenLineage provider writes each event into a file of its own."""
    pytest.importorskip("airflow.providers.openlineage")
    home = tmp_path_factory.mktemp("lineage")
    transport = {"type": "file", "log_file_path": str(home / "event")}
    environment = {"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)}
    with LocalAirflow(home, EXAMPLES, env=environment) as running:
        running.add_connection("losant_default", **connection(losant))
        running.wait_for_dag(REPORT_DAG)
        running.unpause(REPORT_DAG)
        yield running


def events_of(airflow: LocalAirflow, *, since: int = 0) -> list[dict[str, Any]]:
    """Return the events of the DAG's tasks and of their notebook, in the order in which they were sent."""
    events = read_events(*sorted(airflow.home.glob("event*.json")))[since:]
    return [it for it in events if REPORT_DAG not in (it["job"]["name"], it["job"]["name"].split("/")[0])]


def run(airflow: LocalAirflow, *, day: int) -> str:
    """Run the DAG for one of the days that there are sample data of, and return how it ended."""
    from datetime import timedelta

    first, last = (at + timedelta(days=day) for at in DATA_INTERVAL)
    run_id = airflow.trigger(REPORT_DAG, logical_date=last, data_interval=(first, last))
    return airflow.wait_for_run(REPORT_DAG, run_id, timeout=150)


def test_each_deferred_task_tells_of_its_notebooks_run_as_of_a_child(
    airflow: LocalAirflow, losant: Emulator
) -> None:
    losant.script(REPORT_NOTEBOOK, None)

    assert run(airflow, day=0) == "success"

    events = events_of(airflow)
    notebooks = [it for it in events if it["job"]["namespace"].startswith("losant://")]
    tasks = {it["run"]["runId"]: it for it in events if it["job"]["name"] == f"{REPORT_DAG}.report"}
    ended = [it for it in notebooks if it["eventType"] == "COMPLETE"]
    path = f"{losant.application_id}/notebooks/{REPORT_NOTEBOOK}"
    assert len(ended) == len(tasks) == len(expected_energy())
    assert {it["job"]["name"] for it in notebooks} == {path}
    assert {it["run"]["facets"]["parent"]["run"]["runId"] for it in ended} == set(tasks)
    for event in (*ended, *tasks.values()):
        assert event["eventType"] == "COMPLETE"
        assert [it["name"] for it in event["inputs"]] == [f"{losant.application_id}/devices"]
        assert f"{path}/outputs/energy-per-hour.csv" in {it["name"] for it in event["outputs"]}
    for told in told_to_notebooks(losant):
        assert told["OPENLINEAGE_PARENT_ID"].rpartition("/")[2] in tasks


def test_each_deferred_task_that_fails_tells_why_its_notebook_did(
    airflow: LocalAirflow, losant: Emulator
) -> None:
    losant.script(REPORT_NOTEBOOK, BROKEN)
    before = len(list(airflow.home.glob("event*.json")))

    assert run(airflow, day=-1) == "failed"

    failed = [it for it in events_of(airflow, since=before) if it["eventType"] == "FAIL"]
    sites = len(expected_energy())
    notebooks = [it for it in failed if it["job"]["namespace"].startswith("losant://")]
    assert (len(failed), len(notebooks)) == (2 * sites, sites)
    assert {it["run"]["facets"]["errorMessage"]["message"] for it in notebooks} == {"ValueError: no readings"}
    assert all("losant_execution" in it["run"]["facets"] for it in failed)
    secrets = (losant.token, losant.files_url)
    written = "".join(path.read_text() for path in airflow.home.glob("event*.json"))
    assert not [it for it in secrets if it in written]


def told_to_notebooks(losant: Emulator) -> list[dict[str, str]]:
    """Return what each order has told its notebook about OpenLineage."""
    orders = [it.body for it in losant.requests if it.operation == "notebook.execute"]
    return [json.loads(it["templateContext"])["airflow"]["openlineage"] for it in orders]
