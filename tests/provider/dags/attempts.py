# SPDX-License-Identifier: Apache-2.0
"""A task that runs another notebook in each try."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator

with DAG("attempts", start_date=pendulum.datetime(2026, 1, 1), schedule=None) as attempts:
    for name in ("waiting", "deferred"):
        LosantNotebookExecuteOperator(
            task_id=name,
            notebook_id="{{ dag_run.conf['notebooks'][ti.try_number - 1] }}",
            deferrable=name == "deferred",
            poll_interval=0.02,
            retries=1,
            retry_delay=timedelta(0),
        )
