# SPDX-License-Identifier: Apache-2.0
"""Loops of one task, on an Airflow that has loops."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from tests.journeys.dags.journeys import DEFERRED, PLACE, RETRYING, dag
from tests.support.airflow_versions import is_for

ITERATIONS = 3
VARIANTS: dict[str, dict[str, Any]] = {"looped": RETRYING, "looped_deferred": RETRYING | DEFERRED}


def make(name: str, setup: dict[str, Any]) -> None:
    """Make a DAG whose notebook runs in a loop, and whose last task collects the results."""
    from airflow.sdk import task, task_group

    from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator

    @task_group(prefix_group_id=False)
    def passes() -> None:
        LosantNotebookExecuteOperator(**PLACE | setup)

    @task
    def collect(ti: Any = None) -> list[str]:
        return [result["execution_id"] for result in ti.xcom_pull(task_ids="run")]

    with dag(name):
        passes.loop(max_iterations=ITERATIONS) >> collect()  # type: ignore[attr-defined]  # new in 3.4


if is_for(version("apache-airflow"), since="3.4"):
    for _name, _setup in VARIANTS.items():
        make(_name, _setup)
