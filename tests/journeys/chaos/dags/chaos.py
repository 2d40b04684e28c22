# SPDX-License-Identifier: Apache-2.0
"""The same mapped tasks, waiting in workers and in the triggerer, with many retries and with none."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import dag

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.operators.sweep import LosantNotebookOrphanSweepOperator

WIDTH = 5
"""Mapped tasks of each DAG run."""

PARAMS: dict[str, Any] = {"notebooks": [""]}
ACTIVE_RUNS = 6
WITH_RETRIES: dict[str, Any] = {"retries": 30}
WITH_ONE_TRY: dict[str, Any] = {"retries": 0, "max_poll_outage": 1}
"""An outage of the log ends these tasks, as it lasts longer than they wait."""
ONE_TRY = "_with_one_try"
"""The end of the name of a DAG whose tasks have no retries."""
SWEEP = "chaos_sweep"


def run(*, deferrable: bool, tries: dict[str, Any]) -> None:
    """Run one of the notebooks for each number."""
    LosantNotebookExecuteOperator.partial(
        task_id="run",
        notebook_id="{{ params.notebooks[ti.map_index % (params.notebooks | length)] }}",
        deferrable=deferrable,
        poll_interval=1,
        timeout=timedelta(minutes=10),
        max_log_lag=7,
        retry_delay=timedelta(seconds=1),
        **tries,
    ).expand(template_context=[{"number": number} for number in range(WIDTH)])


def make_dag(dag_id: str, **kind: Any) -> None:
    """Make the DAG of one kind of task."""

    @dag(dag_id, schedule=None, params=PARAMS, max_active_runs=ACTIVE_RUNS)
    def chaos() -> None:
        run(**kind)

    chaos()


for _dag_id, _is_deferrable in (("chaos_waiting", False), ("chaos_deferrable", True)):
    make_dag(_dag_id, deferrable=_is_deferrable, tries=WITH_RETRIES)
    make_dag(f"{_dag_id}{ONE_TRY}", deferrable=_is_deferrable, tries=WITH_ONE_TRY)


@dag(SWEEP, schedule=None)
def sweep() -> None:
    """Cancel what no task waits for."""
    LosantNotebookOrphanSweepOperator(task_id="run", min_age=0.1, retries=3, retry_delay=timedelta(seconds=1))


sweep()
