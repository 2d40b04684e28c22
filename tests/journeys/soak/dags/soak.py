# SPDX-License-Identifier: Apache-2.0
"""Sensors that start in the triggerer, one for each execution in the conf of the DAG run."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor

WIDTH = 50
"""Waits of one DAG run."""

with DAG("soak", schedule=None, max_active_runs=100, max_active_tasks=10_000):
    for number in range(WIDTH):
        LosantNotebookExecutionSensor(
            task_id=f"wait_{number}",
            notebook_id="{{ dag_run.conf['notebook_id'] }}",
            execution_id=f"{{{{ dag_run.conf['executions'][{number}] }}}}",
            poke_interval=20,
            timeout=24 * 3600,
            deferrable=True,
            start_from_trigger=True,
        )
