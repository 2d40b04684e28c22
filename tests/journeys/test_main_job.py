# SPDX-License-Identifier: Apache-2.0
"""A DAG runs a real notebook for each site, and the reports contain the right numbers."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from example_dags.demo import checks, steps
from tests.support.airflow_connection import connection

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_losant.emulator import Emulator
    from tests.support.journey import RunningAirflow

pytestmark = pytest.mark.xdist_group("examples")


@pytest.mark.kernel
def test_a_deployed_notebook_runs_for_each_site_and_its_files_are_stored(
    airflow: RunningAirflow, losant: Emulator, tmp_path: Path
) -> None:
    variable = {"key": "losant_landing", "value": f"file://{tmp_path}"}
    airflow.request("POST", "/variables", json=variable)
    airflow.wait_for_dag(checks.DEPLOY_DAG)
    airflow.unpause(checks.DEPLOY_DAG)
    run_id = airflow.trigger(
        checks.DEPLOY_DAG, logical_date=checks.QUERY_TIME, data_interval=checks.DATA_INTERVAL
    )

    assert airflow.wait_for_run(checks.DEPLOY_DAG, run_id, timeout=180) == "success"

    deployed = airflow.xcom(checks.DEPLOY_DAG, run_id, "deploy")
    assert (deployed["created"], deployed["uploaded"]) == (True, True)
    assert checks.stored_files_problems(tmp_path) == []
    assert len(losant.executions(deployed["notebook_id"])) == len(checks.expected_energy())
    secrets = {"API token": losant.token, "URL of a result file": losant.files_url}
    assert checks.leak_problems(secrets, airflow.home) == []


@pytest.mark.kernel
def test_every_site_gets_the_report_of_its_own_numbers(
    airflow: RunningAirflow, losant: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_LOSANT_DEFAULT", json.dumps(connection(losant)))
    airflow.wait_for_dag(checks.REPORT_DAG)
    airflow.unpause(checks.REPORT_DAG)
    run_id = airflow.trigger(
        checks.REPORT_DAG, logical_date=checks.QUERY_TIME, data_interval=checks.DATA_INTERVAL
    )

    assert airflow.wait_for_run(checks.REPORT_DAG, run_id, timeout=180) == "success"

    reports = steps.read_reports(airflow, {checks.REPORT_DAG: run_id})
    assert sorted(report.site for report in reports) == sorted(checks.expected_energy())
    for report in reports:
        assert steps.download(report, tmp_path / report.site) == []
    # The checks distinguish the sites: the numbers of another one are wrong.
    files = [(tmp_path / reports[0].site / name).read_text() for name in checks.FILES]
    assert checks.report_problems(reports[1].site, *files) != []
    requests = [asdict(it) for it in losant.requests if checks.REPORT_NOTEBOOK in it.path]
    assert checks.request_problems(requests, executions={checks.REPORT_NOTEBOOK: len(reports)}) == []
    secrets = {"API token": losant.token, "URL of a result file": losant.files_url}
    assert checks.leak_problems(secrets, airflow.home) == []
