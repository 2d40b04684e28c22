# SPDX-License-Identifier: Apache-2.0
"""
Stop the runs that nobody waits for any more.

A killed task cancels its run by itself, but now and then Airflow tells nobody of a kill, or a triggerer or
Losant is down just then. This small DAG finds what was left running, and leaves everything else alone.
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
    """Look after all notebooks of the connection's application, every ten minutes."""
    LosantNotebookOrphanSweepOperator(task_id="sweep")


losant_orphan_sweep()
# [END losant_orphan_sweep]
