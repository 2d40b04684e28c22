# SPDX-License-Identifier: Apache-2.0
"""
Ask a person before a notebook runs that uses many run minutes.

This requires Airflow 3.1 or later. The request is on Airflow's page *Required actions*.
"""

from __future__ import annotations

# [START losant_approve_run]
from datetime import timedelta

import pendulum
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import dag

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator

FLEET_BATTERY_HEALTH = "67b3a90ce5b1a2000d6f5e37"


@dag(schedule="@weekly", start_date=pendulum.datetime(2026, 1, 1), catchup=False, tags=["losant", "fleet"])
def losant_approve_run() -> None:
    """Check the batteries of the fleet, if a person approves it."""
    approve = ApprovalOperator(
        task_id="approve",
        subject="Check the fleet until {{ data_interval_end | default(dag_run.run_after) | ds }}?",
        body="The notebook uses up to 300 run minutes.",
        defaults="Reject",
        response_timeout=timedelta(hours=12),
    )
    check = LosantNotebookExecuteOperator(
        task_id="check",
        notebook_id=FLEET_BATTERY_HEALTH,
        relative_to="{{ data_interval_end | default(dag_run.run_after) }}",
        template_context={"fleet": "north", "empty_at_volts": 3.6, "warn_days": 7},
        deferrable=True,
        retries=2,
    )
    approve >> check


losant_approve_run()
# [END losant_approve_run]
