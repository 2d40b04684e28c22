# SPDX-License-Identifier: Apache-2.0
"""
Three notebooks in a chain: values of one are the input of the next, and decide whether the last one runs.

The first notebook computes from which voltage on a battery of a fleet counts as weak. The second gets that
number, and finds the weak batteries. The third plans the visits, if there are any; its task is skipped
otherwise. Run the DAG with fewer ``deviations`` to find more weak batteries.
"""

from __future__ import annotations

# [START losant_hand_over_values]
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_losant.decorators.notebook import losant_notebook_task
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator

VOLTAGE_LIMIT = "67c4b81fe5b1a2000d6f7a42"
WEAK_BATTERIES = "67c4b9a3e5b1a2000d6f7a58"
VISITS = "67c4bb27e5b1a2000d6f7a6d"
FLEET = "north"


@dag(
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    params={"deviations": 3},
    tags=["losant", "fleet"],
)
def losant_hand_over_values() -> None:
    """Plan visits to the trackers whose batteries are weak."""
    limit = LosantNotebookExecuteOperator(
        task_id="limit",
        notebook_id=VOLTAGE_LIMIT,
        relative_to="{{ data_interval_end | default(dag_run.run_after) }}",
        template_context={"fleet": FLEET, "deviations": "{{ params.deviations }}"},
        values_from="values.json",  # {"limit": 3.501, "trackers": 5}
        deferrable=True,
    )

    @losant_notebook_task(
        notebook_id=WEAK_BATTERIES,
        relative_to="{{ data_interval_end | default(dag_run.run_after) }}",
        values_from="values.json",  # {"limit": 3.501, "weak": []}
        deferrable=True,
    )
    def weak_batteries(values: dict[str, Any]) -> dict[str, Any]:
        """Return the context of the notebook: the limit is a number, as the first notebook wrote it."""
        return {"fleet": FLEET, "limit": values["limit"]}

    @task.branch
    def choose(values: dict[str, Any]) -> str | None:
        """Name the next task, or none."""
        return "visits" if values["weak"] else None

    weak = weak_batteries(limit.output["values"])
    visits = LosantNotebookExecuteOperator(
        task_id="visits", notebook_id=VISITS, template_context=weak["values"], deferrable=True
    )
    choose(weak["values"]) >> visits


losant_hand_over_values()
# [END losant_hand_over_values]
