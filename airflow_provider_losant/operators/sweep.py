# SPDX-License-Identifier: Apache-2.0
"""Stop the runs that nobody waits for any more, in the few gaps where Airflow tells nobody."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import BaseOperator, dag_run_start, deployment_id, task_state
from airflow_provider_losant.api.endpoints import MAX_LOG_LIMIT
from airflow_provider_losant.api.errors import LosantError
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.ownership import Owner, read_marker
from airflow_provider_losant.api.timestamps import parse_seconds
from airflow_provider_losant.exceptions import NotebookExecutionError, permanent_errors_as_config_error

if TYPE_CHECKING:
    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.api.model import Execution
    from airflow_provider_losant.hooks.losant import LosantHook

FINISHED_STATES = {None, "success", "failed", "skipped", "upstream_failed", "removed"}
"""States of a task instance that waits for nothing; None is one that was cleared, or is gone."""


class LosantNotebookOrphanSweepOperator(BaseOperator):
    """
    Cancel active runs whose task in this Airflow is finished, cleared or gone.

    A task that is killed cancels its run by itself. But Airflow tells nobody when a deferred task is marked
    before its trigger has loaded, or a running one in the instant it defers, and a triggerer or an API may
    be down just then. Put this operator into a small DAG that runs every few minutes.

    It goes by the mark that :class:`.LosantNotebookExecuteOperator` leaves in the template context, and
    leaves alone what has none, what was to outlive its task (``wait_for_completion=False``,
    ``cancel_on_kill=False``), what another Airflow started, and what is younger than ``min_age``. Set
    Airflow's ``[api] base_url``: without it a run from before its whole DAG run was cleared cannot be told
    from another Airflow's.

    The result (XCom) is a JSON dict: ``looked_at`` (active runs seen), ``cancelled`` (their ids) and
    ``left`` (how many, by reason).

    :param notebook_ids: The notebooks to look at; all of the application by default. (templated)
    :param application_id: The application; by default the connection's. (templated)
    :param min_age: Seconds (or timedelta) a run is left in peace, since its task may just be changing hands.
    :param max_age: Seconds (or timedelta) to look back.
    :param losant_conn_id: The Airflow connection. (templated)
    :raises NotebookExecutionError: a notebook's log could not be read, or a run not be cancelled; the
        others were dealt with all the same.
    """

    template_fields: Sequence[str] = ("notebook_ids", "application_id", "losant_conn_id")
    ui_color = "#e3f4e1"

    def __init__(
        self,
        *,
        notebook_ids: Sequence[str] | None = None,
        application_id: str | None = None,
        min_age: float | timedelta = timedelta(minutes=2),
        max_age: float | timedelta = timedelta(hours=24),
        losant_conn_id: str = "losant_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.notebook_ids = notebook_ids
        self.application_id = application_id
        self.min_age = min_age
        self.max_age = max_age
        self.losant_conn_id = losant_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Look at every notebook, decide on every active run, and report."""
        del context
        from airflow_provider_losant.hooks.losant import LosantHook

        hook = LosantHook(self.losant_conn_id, self.application_id)
        now = time.time()
        with permanent_errors_as_config_error():
            oldest = now - parse_seconds(self.max_age, field="max_age")
            youngest = now - parse_seconds(self.min_age, field="min_age")
        left: Counter[str] = Counter()
        cancelled: list[str] = []
        problems: list[str] = []
        for execution in self._active(hook, oldest, problems):
            reason = self._reason_to_leave(execution, youngest)
            execution_id = execution.ref.execution_id
            if reason is not None:
                self.log.info("Left alone: execution %s (%s)", execution_id, reason)
                left[reason] += 1
                continue
            done = hook.client.run(cancel(execution.ref, "nobody waits for it any more", retries=2))
            if done == "failed":
                problems.append(f"execution {execution_id} could not be cancelled")
            else:
                cancelled.append(execution_id)
        report = {
            "looked_at": sum(left.values()) + len(cancelled),
            "cancelled": cancelled,
            "left": dict(left),
        }
        self.log.info("Orphan sweep: %s", report)
        if problems:
            raise NotebookExecutionError("; ".join(problems))
        return report

    def _active(self, hook: LosantHook, oldest: float, problems: list[str]) -> list[Execution]:
        active: list[Execution] = []
        for notebook_id in self.notebook_ids or [it.id for it in hook.list_notebooks()]:
            try:
                recent = hook.get_execution_logs(notebook_id, limit=MAX_LOG_LIMIT, since=oldest * 1000)
            except LosantError as error:
                problems.append(f"notebook {notebook_id}: {error}")
            else:
                active += [it for it in recent if it.status.is_active]
        return active

    def _reason_to_leave(self, execution: Execution, youngest: float) -> str | None:
        marker = read_marker(execution)
        if not marker:
            return "not started by Airflow"
        if not marker.get("sweep"):
            return "meant to outlive its task"
        if execution.queued_time > youngest:
            return "too young"
        is_known, started = dag_run_start(marker["dag_id"], marker["run_id"])
        deployment = deployment_id(started)
        if is_known and not deployment:
            return "whose Airflow it is cannot be told: set [api] base_url"
        if not is_known or not _owner(marker, deployment).is_same_task(execution):
            return "of another Airflow"
        state = task_state(marker["dag_id"], marker["task_id"], marker["run_id"], marker["map_index"])
        return None if state in FINISHED_STATES else f"its task is {state}"


def _owner(marker: Mapping[str, Any], deployment: str) -> Owner:
    """Make the chain that the mark claims to be of, to see whether its id bears it out."""
    return Owner(
        dag_id=marker["dag_id"],
        task_id=marker["task_id"],
        run_id=marker["run_id"],
        map_index=marker["map_index"],
        try_number=marker["try_number"],
        max_tries=0,
        deployment=deployment,
    )
