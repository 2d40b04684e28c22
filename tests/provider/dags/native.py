# SPDX-License-Identifier: Apache-2.0
"""Tasks of a DAG that renders native objects: names and dates of digits, paths, and XComs of mapped tasks."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_losant.decorators.notebook import losant_notebook_task
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.operators.upload import LosantNotebookUploadOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from airflow_provider_losant.transfers.notebook_outputs import LosantNotebookOutputsToObjectStorageOperator
from tests.provider.dags.in_process import MODES

NAME = "{{ dag_run.conf['name'] }}"
FOLDER = Path("{{ dag_run.conf['folder'] }}")
QUICK: dict[str, Any] = {"notebook_name": NAME, "poll_interval": 0.02}

with DAG(
    "native",
    start_date=pendulum.datetime(2026, 1, 1),
    schedule=None,
    render_template_as_native_obj=True,
    params={"number": 7, "names": ["7", "r*.html"]},
) as native:

    @task
    def double(number: int) -> int:
        return 2 * number

    numbers = double.expand(number=[1, 2])
    for name in ("waiting", "deferred"):
        LosantNotebookExecuteOperator(
            task_id=f"lazy_{name}",
            template_context={
                "ids": numbers,
                "in": [{"ids": numbers.map(str)}],
                "n": "{{ params.number }}",
            },
            relative_to="{{ ds_nodash }}",
            notification_email="{{ dag_run.conf.get('email') }}",
            save_outputs_to=FOLDER / "saved" / "{{ ti.task_id }}",
            deferrable=name == "deferred",
            **QUICK,
        )

    @losant_notebook_task(values_from="{{ dag_run.conf.get('values') }}", **QUICK)
    def decorated(ids: Any, at: datetime) -> dict[str, Any]:
        return {"ids": ids, "at": at, "share": Decimal("0.5")}

    fired = decorated(numbers, "{{ data_interval_end }}")  # type: ignore[arg-type]  # rendered as a datetime

    LosantNotebookExecuteOperator.partial(
        task_id="mapped", save_outputs_to=FOLDER / "mapped" / "{{ ti.map_index }}", **QUICK
    ).expand(template_context=[{"site": "{{ params.number }}"}, {"site": "south"}])
    LosantNotebookExecuteOperator.partial(
        task_id="mapped_folders", template_context={"ids": numbers}, **QUICK
    ).expand(save_outputs_to=[FOLDER / "first", FOLDER / "{{ ds_nodash }}"])

    fired >> LosantNotebookOutputsToObjectStorageOperator(
        task_id="copied",
        notebook_name=NAME,
        execution_id="{{ ti.xcom_pull(task_ids='decorated')['execution_id'] }}",
        destination=FOLDER / "copied" / "{{ ds_nodash }}",
        outputs="{{ params.names }}",
    )
    for mode in ("poke", "deferred", "started"):
        fired >> LosantNotebookExecutionSensor(
            task_id=f"await_{mode}",
            notebook_name=NAME,
            since="{{ dag_run.conf['since'] }}",
            context_contains={"n": "{{ params.number }}"},
            poke_interval=0.02,
            timeout=30,
            **MODES[mode],
        )
    LosantNotebookUploadOperator(
        task_id="uploaded", notebook_name=NAME, path=FOLDER / "{{ dag_run.conf['name'] }}.ipynb"
    )
