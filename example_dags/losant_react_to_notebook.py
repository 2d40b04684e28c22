# SPDX-License-Identifier: Apache-2.0
"""
Start a DAG whenever an execution of a notebook has ended, also if a Losant workflow or a user submitted it.

The triggerer watches the notebook. No task waits for it, and the DAG needs no time schedule. This requires
Airflow 3.0 or later.
"""

from __future__ import annotations

from typing import Any

# [START losant_react_to_notebook]
import pendulum
from airflow.sdk import AssetWatcher, dag, task

from airflow_provider_losant.assets.notebook import create_asset
from airflow_provider_losant.triggers.notebook import LosantNotebookEventTrigger

ENERGY_REPORT = "67a2f1b4e5b1a2000d6f4c21"
ENDED = LosantNotebookEventTrigger(
    notebook_id=ENERGY_REPORT, statuses=("completed", "errored"), poll_interval=60
)
REPORTS = create_asset(
    notebook_id=ENERGY_REPORT,
    application_id="575ec8687ae143cd83dc4a97",
    watchers=[AssetWatcher(name="losant_energy_reports", trigger=ENDED)],
)


@dag(schedule=[REPORTS], start_date=pendulum.datetime(2026, 1, 1), catchup=False, tags=["losant", "energy"])
def losant_react_to_notebook() -> None:
    """Print each energy report as soon as it exists."""

    @task
    def print_reports(triggering_asset_events: Any = None) -> list[str]:
        """Print and return the reports and their status."""
        reports = [event.extra["payload"] for event in triggering_asset_events[REPORTS]]
        for report in reports:
            print(f"Report as of {report['relative_to']}: {report['status']}, see {report['url']}")
        return [report["execution_id"] for report in reports]

    print_reports()


losant_react_to_notebook()
# [END losant_react_to_notebook]
