# SPDX-License-Identifier: Apache-2.0
"""The same mapped tasks twice, waiting in workers and in the triggerer, with many retries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import dag

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator

WIDTH = 5
"""Mapped tasks of each DAG run."""

PARAMS: dict[str, Any] = {"notebooks": [""]}
ACTIVE_RUNS = 6


def run(*, deferrable: bool) -> None:
    """Run one of the notebooks for each number."""
    LosantNotebookExecuteOperator.partial(
        task_id="run",
        notebook_id="{{ params.notebooks[ti.map_index % (params.notebooks | length)] }}",
        deferrable=deferrable,
        poll_interval=1,
        timeout=timedelta(minutes=10),
        max_log_lag=7,
        retries=30,
        retry_delay=timedelta(seconds=1),
    ).expand(template_context=[{"number": number} for number in range(WIDTH)])


@dag(schedule=None, params=PARAMS, max_active_runs=ACTIVE_RUNS)
def chaos_waiting() -> None:
    """Wait in a worker."""
    run(deferrable=False)


@dag(schedule=None, params=PARAMS, max_active_runs=ACTIVE_RUNS)
def chaos_deferrable() -> None:
    """Wait in the triggerer."""
    run(deferrable=True)


chaos_waiting()
chaos_deferrable()
