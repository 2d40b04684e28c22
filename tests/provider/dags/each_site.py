# SPDX-License-Identifier: Apache-2.0
"""A DAG with mapped tasks as users write it: with the waits of production."""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import dag, task_group

from airflow_provider_losant.decorators.notebook import losant_notebook_task
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator

NOTEBOOK = "5c782b8d4f3a8e51c1db42e4"
SITES = ["hamburg-harbour", "lyon-depot", "austin-plant"]


@dag(schedule=None, start_date=pendulum.datetime(2026, 1, 1))
def each_site() -> None:
    """Run the notebook for each site in three ways."""
    LosantNotebookExecuteOperator.partial(
        task_id="report", notebook_id=NOTEBOOK, deferrable=True, retries=2
    ).expand(template_context=[{"site": site} for site in SITES])

    @losant_notebook_task(notebook_id=NOTEBOOK, deferrable=True)
    def decorated(site: str) -> dict[str, Any]:
        return {"site": f"decorated {site}"}

    decorated.expand(site=SITES)

    @task_group
    def of_site(context: dict[str, Any]) -> None:
        LosantNotebookExecuteOperator(
            task_id="grouped", notebook_id=NOTEBOOK, deferrable=True, template_context=context
        )

    of_site.expand(context=[{"site": f"grouped {site}"} for site in SITES])


each_site()
