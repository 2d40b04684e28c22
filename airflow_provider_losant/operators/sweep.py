# SPDX-License-Identifier: Apache-2.0
"""Cancel executions that no task waits for any more, where Airflow calls no kill handler."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import BaseOperator, dag_run_start, deployment_id, task_state
from airflow_provider_losant.api.errors import LosantError
from airflow_provider_losant.api.fields import losant_id
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.log_reader import SEARCH_LIMIT, LogLimit, read_log
from airflow_provider_losant.api.flows.ownership import Owner, read_marker
from airflow_provider_losant.api.timestamps import parse_seconds
from airflow_provider_losant.exceptions import NotebookExecutionError, permanent_errors_as_config_error

if TYPE_CHECKING:
    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.api.model import Execution
    from airflow_provider_losant.hooks.losant import LosantHook

FINISHED_STATES = {None, "success", "failed", "skipped", "upstream_failed", "removed"}
"""States of a task instance that waits for no execution; None is one that was cleared or deleted."""


class LosantNotebookOrphanSweepOperator(BaseOperator):
    """
    Cancel orphans: active executions whose task in this Airflow is finished, cleared or deleted.

    A task that is killed cancels its execution by itself. But Airflow calls no kill handler when a deferred
    task is marked before its trigger has loaded, or a running one just as it defers, and a triggerer or an
    API may be down at that moment. Put this operator into a small DAG that runs every few minutes.

    It reads the marker that :class:`.LosantNotebookExecuteOperator` adds to the template context. It leaves
    alone executions without a marker, those that are to outlive their task (``wait_for_completion=False``,
    ``cancel_on_kill=False``), those of another Airflow, and those younger than ``min_age``. Set Airflow's
    ``[api] base_url``: without it, an execution from before its whole DAG run was cleared cannot be
    distinguished from one of another Airflow.

    The result (XCom) is a JSON dict: ``checked`` (number of active executions), ``cancelled`` (their ids)
    and ``left`` (how many were left alone, by reason).

    :param notebook_ids: IDs of the notebooks to check; by default all of the application. (templated)
    :param application_id: ID of the application; by default the connection's. (templated)
    :param min_age: Seconds (or timedelta) for which a new execution is left alone, because its task may just
        be deferring.
    :param max_age: Seconds (or timedelta) to look back in the execution log.
    :param losant_conn_id: The Airflow connection. (templated)
    :raises NotebookExecutionError: a notebook's log could not be read, or not back to ``max_age``, or an
        execution not be cancelled; the others were handled all the same.
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
        """Check every active execution of every notebook, cancel the orphans, and return a report."""
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
                self.log.info("Execution %s is no orphan: %s", execution_id, reason)
                left[reason] += 1
                continue
            result = hook.client.run(cancel(execution.ref, "no task waits for it any more", retries=2))
            if result == "failed":
                problems.append(f"execution {execution_id} could not be cancelled")
            else:
                cancelled.append(execution_id)
        report = {
            "checked": sum(left.values()) + len(cancelled),
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
            with permanent_errors_as_config_error():
                ids = hook.resolve_application_id(None), losant_id(notebook_id, field="notebook_id")
            retries = hook.settings.max_retries
            try:
                reading = hook.client.run(
                    read_log(*ids, back_to=oldest, limit=LogLimit(SEARCH_LIMIT), retries=retries)
                )
            except LosantError as error:
                problems.append(f"notebook {notebook_id}: {error}")
                continue
            if not reading.is_complete:
                problems.append(reading.problem)
            active += [it for it in reading.log.summaries(*ids) if it.status.is_active]
        return active

    def _reason_to_leave(self, execution: Execution, youngest: float) -> str | None:
        marker = read_marker(execution)
        if not marker:
            return "not submitted by Airflow"
        if not marker.get("sweep"):
            return "may outlive its task"
        if execution.queued_time > youngest:
            return "younger than min_age"
        is_known, started = dag_run_start(marker["dag_id"], marker["run_id"])
        deployment = deployment_id(started)
        if is_known and not deployment:
            return "its Airflow is unknown; set [api] base_url"
        if not is_known or not _owner(marker, deployment).is_same_task(execution):
            return "submitted by another Airflow"
        state = task_state(marker["dag_id"], marker["task_id"], marker["run_id"], marker["map_index"])
        return None if state in FINISHED_STATES else f"its task is {state}"


def _owner(marker: Mapping[str, Any], deployment: str) -> Owner:
    """Return the owner that the marker names, whose id shows whether the marker is genuine."""
    return Owner(
        dag_id=marker["dag_id"],
        task_id=marker["task_id"],
        run_id=marker["run_id"],
        map_index=marker["map_index"],
        try_number=marker["try_number"],
        max_tries=0,
        deployment=deployment,
    )
