# SPDX-License-Identifier: Apache-2.0
"""
Start a DAG for all executions of a busy notebook that have ended since the DAG run before.

The triggerer watches the notebook, as in ``losant_react_to_notebook``. This requires Airflow 3.0 or later.
"""

from __future__ import annotations

from typing import Any

# [START losant_react_to_busy_notebook]
import pendulum
from airflow.sdk import AssetWatcher, dag, task

from airflow_provider_losant.assets.notebook import create_asset
from airflow_provider_losant.triggers.notebook import LosantNotebookEventTrigger

METER_CHECK = "67a2f1b4e5b1a2000d6f4c22"
CHECKS = create_asset(
    notebook_id=METER_CHECK,
    application_id="575ec8687ae143cd83dc4a97",
    watchers=[
        AssetWatcher(
            name="losant_meter_checks",
            trigger=LosantNotebookEventTrigger(notebook_id=METER_CHECK, poll_interval=20, batch=True),
        )
    ],
)


@dag(schedule=[CHECKS], start_date=pendulum.datetime(2026, 1, 1), catchup=False, tags=["losant", "energy"])
def losant_react_to_busy_notebook() -> None:
    """Process the meter checks that have ended together."""

    @task
    def print_checks(triggering_asset_events: Any = None) -> int:
        """Print each meter check, and return how many there were."""
        checks = [
            execution
            for event in triggering_asset_events[CHECKS]
            for execution in event.extra["payload"]["executions"]
        ]
        for check in checks:
            print(f"Check {check['execution_id']} took {check['durations']['total']} s")
        return len(checks)

    print_checks()


losant_react_to_busy_notebook()
# [END losant_react_to_busy_notebook]
