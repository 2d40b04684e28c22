# SPDX-License-Identifier: Apache-2.0
"""
Cancel executions that no task waits for any more.

A stopped task cancels its execution itself. In rare cases it cannot: Airflow does not notify the provider, or
the triggerer or Losant is down at that moment. This DAG cancels such executions, and no others.
"""

from __future__ import annotations

# [START losant_orphan_sweep]
import pendulum
from airflow.providers.common.compat.sdk import dag

from airflow_provider_losant.operators.sweep import LosantNotebookOrphanSweepOperator


@dag(
    schedule="*/10 * * * *",
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["losant", "maintenance"],
)
def losant_orphan_sweep() -> None:
    """Check all notebooks of the connection's application every ten minutes."""
    LosantNotebookOrphanSweepOperator(task_id="sweep")


losant_orphan_sweep()
# [END losant_orphan_sweep]
