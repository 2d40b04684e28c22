# SPDX-License-Identifier: Apache-2.0
"""Tasks with a link to Losant, one for each way to store it; the first one's execution may be cancelled."""

from __future__ import annotations

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor

NOTEBOOK = "{{ dag_run.conf['notebook'] }}"

with DAG("linked", start_date=pendulum.datetime(2026, 1, 1), schedule=None) as linked:
    waiting = LosantNotebookExecuteOperator(task_id="waiting", notebook_id=NOTEBOOK, poll_interval=0.1)
    deferred = LosantNotebookExecuteOperator(
        task_id="deferred", notebook_id=NOTEBOOK, poll_interval=0.1, deferrable=True, trigger_rule="all_done"
    )
    started = LosantNotebookExecutionSensor(
        task_id="started",
        notebook_id=NOTEBOOK,
        execution_id="{{ dag_run.conf['execution'] }}",
        poke_interval=0.1,
        deferrable=True,
        start_from_trigger=True,
    )
    waiting >> deferred >> started
