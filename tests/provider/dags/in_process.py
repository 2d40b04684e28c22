# SPDX-License-Identifier: Apache-2.0
"""Every way to run and to await a notebook, in one DAG that Airflow runs in the process of a test."""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor

GIVEN = "{{ dag_run.conf['%s'] }}"
MODES: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule"},
    "deferred": {"deferrable": True},
    "started": {"deferrable": True, "start_from_trigger": True},
}

with DAG("in_process", start_date=pendulum.datetime(2026, 1, 1), schedule=None) as in_process:
    for name in ("waiting", "deferred"):
        LosantNotebookExecuteOperator(
            task_id=f"run_{name}",
            losant_conn_id=GIVEN % "connection",
            application_id=GIVEN % "application",
            notebook_id=GIVEN % "notebook",
            relative_to="{{ data_interval_end }}",
            template_context={"site": GIVEN % "site", "nested": {"days": ["{{ ds }}"]}},
            notification_email="{{ dag_run.conf['site'] }}@energy.example",
            callback_url="https://hooks.example/{{ dag_run.conf['site'] }}",
            deferrable=name == "deferred",
            poll_interval=0.02,
        )
    fired = LosantNotebookExecuteOperator(
        task_id="fire", notebook_id=GIVEN % "notebook", wait_for_completion=False, deferrable=True
    )
    for name, options in MODES.items():
        fired >> LosantNotebookExecutionSensor(
            task_id=f"await_{name}",
            notebook_id=GIVEN % "notebook",
            execution_id="{{ ti.xcom_pull(task_ids='fire', key='execution_id') }}",
            poke_interval=0.02,
            timeout=30,
            **options,
        )
        LosantNotebookExecutionSensor(
            task_id=f"skip_{name}",
            notebook_id=GIVEN % "failed_notebook",
            execution_id=GIVEN % "failed_execution",
            poke_interval=0.02,
            timeout=30,
            soft_fail=True,
            **options,
        )
        LosantNotebookExecutionSensor(
            task_id=f"choose_{name}",
            notebook_id=GIVEN % "mixed_notebook",
            execution_id="{{ dag_run.conf.get('none', '') }}",
            since=GIVEN % "since",
            context_contains={"site": GIVEN % "site", "nested": {"days": [GIVEN % "day"], "count": 2}},
            statuses=["completed", "canceled"],
            poke_interval=0.02,
            timeout=30,
            **options,
        )
        LosantNotebookExecutionSensor(
            task_id=f"unknown_{name}",
            notebook_id=GIVEN % "notebook",
            execution_id="0" * 24,
            since="{{ dag_run.conf.get('none', '') }}",
            poke_interval=0.02,
            timeout=3_600,
            **options,
        )
