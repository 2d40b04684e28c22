# SPDX-License-Identifier: Apache-2.0
"""What the values of a notebook are for, in one DAG that Airflow runs in the process of a test."""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_losant.decorators.notebook import losant_notebook_task
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from tests.provider.dags.in_process import GIVEN, MODES

with DAG("values", start_date=pendulum.datetime(2026, 1, 1), schedule=None) as values:
    reading: dict[str, Any] = {"values_from": "{{ dag_run.conf['file'] }}"}
    notebook: dict[str, Any] = {"notebook_id": GIVEN % "notebook", "poll_interval": 0.02}
    for name in ("waiting", "deferred"):
        first = LosantNotebookExecuteOperator(
            task_id=f"run_{name}", deferrable=name == "deferred", **notebook, **reading
        )
    fired = LosantNotebookExecuteOperator(
        task_id="fire", wait_for_completion=False, values_from=GIVEN % "nothing", **notebook
    )
    for name, options in MODES.items():
        LosantNotebookExecutionSensor(
            task_id=f"await_{name}",
            notebook_id=GIVEN % "notebook",
            execution_id=fired.output["execution_id"],
            poke_interval=0.02,
            timeout=30,
            **reading,
            **options,
        )

    pulled = "ti.xcom_pull(task_ids='run_deferred', key='values')['limit']"
    contexts: dict[str, Any] = {
        "all": first.output["values"],
        "text": {"limit": f"{{{{ {pulled} }}}}"},
        "number": f'{{"limit": {{{{ {pulled} }}}} }}',
    }
    for name, context in contexts.items():
        first >> LosantNotebookExecuteOperator(task_id=f"next_{name}", template_context=context, **notebook)

    @losant_notebook_task(multiple_outputs=True, **notebook, **reading)
    def decorated() -> dict[str, Any]:
        return {}

    @task
    def sites(found: dict[str, Any]) -> list[dict[str, str]]:
        return [{"site": site} for site in found["sites"]]

    @task.branch
    def choose(found: dict[str, Any]) -> str:
        return "above" if found["limit"] > 1 else "below"

    @task
    def above() -> None:
        """Run if the limit is large."""

    @task
    def below() -> None:
        """Run if the limit is small."""

    found: Any = decorated()
    choose(found["values"]) >> [above(), below()]
    LosantNotebookExecuteOperator.partial(task_id="each", deferrable=True, **notebook, **reading).expand(
        template_context=sites(found["values"])
    )
