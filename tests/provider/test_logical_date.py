# SPDX-License-Identifier: Apache-2.0
"""The example that users start from works in DAG runs with and without a logical date."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.provider.conftest import IN_AIRFLOW_DATABASE, dag_bundle
from tests.support.factories import BRIEF
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator

pytestmark = [
    *IN_AIRFLOW_DATABASE,
    pytest.mark.airflow(since="3.3"),  # tests/meta/test_templates.py asks about the others
    pytest.mark.usefixtures("airflow_db", "losant_connection"),
]

EXAMPLE = "losant_site_energy_report"
ENERGY_REPORT = "67a2f1b4e5b1a2000d6f4c21"


def query_times(losant: Emulator, folder: Path, logical_date: datetime | None) -> set[datetime]:
    """Run the example; returns the query times that it has submitted."""
    from airflow.dag_processing.dagbag import DagBag

    losant.add_notebook("Energy report", notebook_id=ENERGY_REPORT)
    losant.script(ENERGY_REPORT, BRIEF)
    text = (ROOT / "example_dags" / f"{EXAMPLE}.py").read_text()
    (folder / "example.py").write_text(text.replace("deferrable=True", "poll_interval=0.02"))
    with dag_bundle(folder):
        dag_run = DagBag(folder).dags[EXAMPLE].test(logical_date=logical_date)

    assert dag_run.state == "success"
    submitted = [it.body["relativeTo"] for it in losant.requests if it.operation == "notebook.execute"]
    return {datetime.fromisoformat(it) for it in submitted}


def test_the_first_example_runs_in_a_dag_run_without_a_logical_date(losant: Emulator, tmp_path: Path) -> None:
    before = datetime.now(UTC)

    (query_time,) = query_times(losant, tmp_path, None)

    assert before <= query_time <= datetime.now(UTC)


def test_with_a_logical_date_the_query_time_is_the_end_of_its_data_interval(
    losant: Emulator, tmp_path: Path
) -> None:
    day = datetime(2026, 3, 5, tzinfo=UTC)

    assert query_times(losant, tmp_path, day) == {day}
