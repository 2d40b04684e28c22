# SPDX-License-Identifier: Apache-2.0
"""Tasks that find their notebooks by name, in one DAG that Airflow runs in the process of a test."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_losant.decorators.notebook import losant_notebook_task
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from tests.provider.dags.in_process import MODES


def rename_before_retry(try_number: int, name: str) -> str:
    """Rename a notebook when the second try of a task renders its templates; returns the new name."""
    hook, renamed = LosantHook(), f"{name}, renamed"
    if try_number > 1:
        hook.update_notebook(hook.find_notebook(name).id, name=renamed)
    return renamed


with DAG(
    "names",
    start_date=pendulum.datetime(2026, 1, 1),
    schedule=None,
    user_defined_macros={"rename": rename_before_retry},
) as names:
    for kind in ("waiting", "deferred"):
        LosantNotebookExecuteOperator(
            task_id=f"retried_{kind}",
            notebook_name=f"Retried {kind}",
            template_context={"renamed": "{{ rename(ti.try_number, task.notebook_name) }}"},
            # The first try cannot write below a file, and fails after its execution has completed.
            save_outputs_to="{{ dag_run.conf['file'] if ti.try_number == 1 else dag_run.conf['folder'] }}",
            deferrable=kind == "deferred",
            poll_interval=0.02,
            max_log_lag=0.1,
            retries=1,
            retry_delay=timedelta(0),
        )

    LosantNotebookExecuteOperator.partial(task_id="mapped", poll_interval=0.02).expand(
        notebook_name=["Retried waiting, renamed", "{{ dag_run.conf['name'] }}"]
    ).set_upstream([names.get_task("retried_waiting"), names.get_task("retried_deferred")])

    @losant_notebook_task(notebook_name="{{ dag_run.conf['name'] }}", deferrable=True, poll_interval=0.02)
    def decorated() -> dict[str, Any]:
        return {"site": "north"}

    fired = decorated()
    for mode in ("reschedule", "started"):
        fired >> LosantNotebookExecutionSensor(
            task_id=f"await_{mode}",
            notebook_name="{{ dag_run.conf['name'] }}",
            execution_id="{{ ti.xcom_pull(task_ids='decorated', key='execution_id') }}",
            poke_interval=0.02,
            timeout=30,
            **MODES[mode],
        )
