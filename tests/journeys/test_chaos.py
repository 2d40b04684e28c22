# SPDX-License-Identifier: Apache-2.0
"""A short chaos run with a fixed seed; ``python -m tests.journeys.chaos`` carries out longer ones."""

from __future__ import annotations

import pytest

from tests.journeys.chaos.chaos_run import run_chaos
from tests.journeys.chaos.dags.chaos import WIDTH
from tests.journeys.chaos.report import Plan


@pytest.mark.xdist_group("stopped-airflow")
@pytest.mark.timeout(300)  # starts an Airflow, and waits for its retries
def test_each_task_has_one_execution_of_its_own_whatever_is_killed() -> None:
    report = run_chaos(
        Plan(runs=2 * WIDTH, runs_with_one_try=WIDTH, seed=7, deferrable=(True, False), limit=180.0)
    )

    print(report)
    assert report.findings.is_clean, str(report)
    assert report.findings.tasks == 3 * WIDTH
    assert report.faults, "no request failed in Losant"
    assert report.network_faults, "nothing failed in the network"
    assert report.deaths, "no process of Airflow was killed"
