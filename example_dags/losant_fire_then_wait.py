# SPDX-License-Identifier: Apache-2.0
"""
Submit an execution now, wait for it later.

The task that submits the execution ends at once, so that other tasks can run in the meantime. A sensor waits
where the result is needed.
"""

from __future__ import annotations

from typing import Any

# [START losant_fire_then_wait]
import pendulum
from airflow.providers.common.compat.sdk import chain, dag, task

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor

BATTERY_HEALTH = "67b3a90ce5b1a2000d6f5e37"


@dag(schedule="@daily", start_date=pendulum.datetime(2026, 1, 1), catchup=False, tags=["losant", "fleet"])
def losant_fire_then_wait() -> None:
    """Check the batteries of a fleet while other tasks run."""
    start = LosantNotebookExecuteOperator(
        task_id="start",
        notebook_id=BATTERY_HEALTH,
        relative_to="{{ data_interval_end | default(dag_run.run_after) }}",
        template_context={"fleet": "north", "empty_at_volts": 3.6, "warn_days": 7},
        wait_for_completion=False,
    )

    @task
    def meanwhile() -> None:
        """Do what does not depend on the notebook."""
        print("The notebook is running.")

    health = LosantNotebookExecutionSensor(
        task_id="health",
        notebook_id=BATTERY_HEALTH,
        execution_id=start.output["execution_id"],
        poke_interval=20,
        deferrable=True,
    )

    @task
    def print_report(execution: dict[str, Any]) -> None:
        """Print where the report is."""
        print(f"{sorted(execution['outputs'])} after {execution['durations']['total']} s: {execution['url']}")

    chain(start, meanwhile(), health)
    print_report(health.output)  # type: ignore[arg-type]  # the execution at run time


losant_fire_then_wait()
# [END losant_fire_then_wait]
