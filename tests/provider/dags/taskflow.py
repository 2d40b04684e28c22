# SPDX-License-Identifier: Apache-2.0
"""Functions that tell notebooks what to do, in one DAG that Airflow runs in the process of a test."""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_losant.decorators.notebook import losant_notebook_task

NOTEBOOK = "0123456789abcdef01234567"

with DAG("taskflow", start_date=pendulum.datetime(2026, 1, 1), schedule=None) as taskflow:

    @losant_notebook_task(
        notebook_id="{{ dag_run.conf['notebook'] }}",
        relative_to="{{ data_interval_end }}",
        poll_interval=0.02,
        if_running="start",
    )
    def report(site: str, ds: str | None = None) -> dict[str, Any]:
        return {"site": site, "day": ds, "untouched": "{{ theirs }}"}

    @losant_notebook_task(notebook_id="{{ dag_run.conf['notebook'] }}", poll_interval=0.02)
    def plain() -> None:
        """Tell nothing."""

    @task
    def tell(result: dict[str, Any], of_site: dict[str, Any]) -> list[str]:
        return [result["execution_id"], of_site["execution_id"]]

    @losant_notebook_task(notebook_id=NOTEBOOK)
    def wrong() -> list[int]:
        return [1]

    @losant_notebook_task(
        notebook_id="{{ dag_run.conf['busy'] }}", deferrable=True, if_running="wait", poll_interval=0.02
    )
    def behind(ds: str | None = None) -> dict[str, Any]:
        return {"day": ds}

    behind()
    single = report.override(task_id="single", deferrable=True)("north")
    report.override(task_id="mapped").expand(site=["south", "west"])
    tell(single, plain())  # type: ignore[arg-type]  # their results at run time
    wrong()
