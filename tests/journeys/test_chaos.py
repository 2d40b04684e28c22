# SPDX-License-Identifier: Apache-2.0
"""A small storm with a fixed seed; ``python -m tests.journeys.chaos`` rides out greater ones."""

from __future__ import annotations

import pytest

from tests.journeys.chaos.chaos_run import ride_out
from tests.journeys.chaos.dags.chaos import WIDTH
from tests.journeys.chaos.report import Plan


@pytest.mark.xdist_group("stopped-airflow")
@pytest.mark.timeout(300)  # an Airflow of its own, and its storm
def test_each_task_has_one_run_of_its_own_whatever_dies() -> None:
    report = ride_out(Plan(runs=2 * WIDTH, seed=7, deferrable=(True, False), limit=180.0))

    print(report)
    assert report.account.is_clean, str(report)
    assert report.account.tasks == 2 * WIDTH
    assert report.faults, "nothing has gone wrong at Losant"
    assert report.deaths, "nobody has died in Airflow"
