# SPDX-License-Identifier: Apache-2.0
"""DAGs that the journeys travel through: each runs the notebook that the run's conf names."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import dag

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator

PARAMS = {"notebook_id": ""}
COMMON: dict[str, Any] = {
    "task_id": "run",
    "notebook_id": "{{ params.notebook_id }}",
    "poll_interval": 1,
}


@dag(schedule=None, params=PARAMS)
def journey_waiting() -> None:
    """Wait in a worker."""
    LosantNotebookExecuteOperator(deferrable=False, **COMMON)


@dag(schedule=None, params=PARAMS)
def journey_deferrable() -> None:
    """Wait in the triggerer."""
    LosantNotebookExecuteOperator(deferrable=True, **COMMON)


@dag(schedule=None, params=PARAMS)
def journey_mapped() -> None:
    """Wait in the triggerer for several executions of one notebook."""
    contexts = [{"site": site} for site in ("north", "east", "west")]
    LosantNotebookExecuteOperator.partial(deferrable=True, **COMMON).expand(template_context=contexts)


journey_waiting()
journey_deferrable()
journey_mapped()
