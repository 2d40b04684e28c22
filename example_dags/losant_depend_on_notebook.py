# SPDX-License-Identifier: Apache-2.0
"""
Start a DAG after a notebook of another DAG has completed.

The notebook is an asset. The task that runs it names it as its outlet. A DAG that is scheduled on the asset
starts after each completed execution, and finds its id, durations and files in the asset event.
"""

from __future__ import annotations

from typing import Any

# [START losant_depend_on_notebook]
import pendulum
from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_losant.assets.notebook import create_asset
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator

BATTERY_HEALTH = "67b3a90ce5b1a2000d6f5e37"
BATTERIES = create_asset(notebook_id=BATTERY_HEALTH, application_id="575ec8687ae143cd83dc4a97")


@dag(schedule="@daily", start_date=pendulum.datetime(2026, 1, 1), catchup=False, tags=["losant", "fleet"])
def losant_check_batteries() -> None:
    """Check the batteries of a fleet."""
    LosantNotebookExecuteOperator(
        task_id="check",
        notebook_id=BATTERY_HEALTH,
        relative_to="{{ data_interval_end | default(dag_run.run_after) }}",
        template_context={"fleet": "north", "empty_at_volts": 3.6, "warn_days": 7},
        deferrable=True,
        outlets=[BATTERIES],
    )


@dag(schedule=[BATTERIES], start_date=pendulum.datetime(2026, 1, 1), catchup=False, tags=["losant", "fleet"])
def losant_plan_visits() -> None:
    """Plan the visits to the vehicles whenever the batteries have been checked."""

    @task
    def plan(triggering_asset_events: Any = None) -> list[str]:
        """Return the executions; several if they ended before this DAG run started."""
        executions = [event.extra["execution_id"] for event in triggering_asset_events[BATTERIES]]
        print(f"Planning after {executions}")
        return executions

    plan()


losant_check_batteries()
losant_plan_visits()
# [END losant_depend_on_notebook]
