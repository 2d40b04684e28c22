# SPDX-License-Identifier: Apache-2.0
"""
Start a DAG whenever a notebook has run, whoever ran it: a Losant workflow, a colleague, another DAG.

The triggerer watches the notebook; no task waits, and nothing has to be scheduled by the clock. Needs Airflow
3.0 or later.
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
    """Look at each energy report as soon as there is one."""

    @task
    def look_at(triggering_asset_events: Any = None) -> list[str]:
        """Say which reports there are, and how they went."""
        reports = [event.extra["payload"] for event in triggering_asset_events[REPORTS]]
        for report in reports:
            print(f"Report as of {report['relative_to']}: {report['status']}, see {report['url']}")
        return [report["execution_id"] for report in reports]

    look_at()


losant_react_to_notebook()
# [END losant_react_to_notebook]
