# SPDX-License-Identifier: Apache-2.0
"""Tasks that fail, with a callback that records what Airflow passes to it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor

GIVEN = "{{ dag_run.conf['%s'] }}"
KINDS: dict[str, dict[str, Any]] = {"final": {"retry_on": (), "retries": 2}, "failed": {}}


def record(context: Any) -> None:
    failure, ti = context["exception"], context["task_instance"]
    known = {name: getattr(failure, name, None) for name in ("execution_id", "notebook_id", "status", "url")}
    line = {"task_id": ti.task_id, "kind": type(failure).__name__, "errors": list(failure.errors), **known}
    with Path(context["dag_run"].conf["file"]).open("a") as file:
        file.write(json.dumps(line) + "\n")


with DAG("alerts", start_date=pendulum.datetime(2026, 1, 1), schedule=None) as alerts:
    for deferrable in (False, True):
        for name, options in KINDS.items():
            LosantNotebookExecuteOperator(
                task_id=f"{name}_{deferrable}",
                notebook_id=GIVEN % "notebook",
                deferrable=deferrable,
                poll_interval=0.02,
                retry_delay=timedelta(0),
                on_failure_callback=record,
                **options,
            )
        LosantNotebookExecutionSensor(
            task_id=f"awaited_{deferrable}",
            notebook_id=GIVEN % "notebook",
            execution_id=GIVEN % "execution",
            deferrable=deferrable,
            poke_interval=0.02,
            timeout=30,
            retries=2,
            on_failure_callback=record,
        )
