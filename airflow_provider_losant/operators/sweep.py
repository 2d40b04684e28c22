# SPDX-License-Identifier: Apache-2.0
"""Cancel executions that no task waits for any more, where Airflow calls no kill handler."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import (
    BaseOperator,
    XCom,
    dag_run_start,
    deployment_id,
    looped_task_state,
    task_state,
)
from airflow_provider_losant.api.errors import LosantError
from airflow_provider_losant.api.flows.abandoned import WAITING_STATES, why_abandoned
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.log_reader import SEARCH_LIMIT, WHOLE_LOG, LogLimit, read_log
from airflow_provider_losant.api.flows.ownership import format_start, read_marker
from airflow_provider_losant.exceptions import NotebookExecutionError, permanent_errors_as_config_error
from airflow_provider_losant.execution.try_state import EXECUTION_KEY
from airflow_provider_losant.hooks.arguments import check_literals, parse_argument
from airflow_provider_losant.templates import TextTemplates

if TYPE_CHECKING:
    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.api.flows.ownership import Owner
    from airflow_provider_losant.api.model import Execution
    from airflow_provider_losant.hooks.losant import LosantHook


class LosantNotebookOrphanSweepOperator(TextTemplates, BaseOperator):
    """
    Cancel orphans: active executions whose task in this Airflow is finished, cleared or deleted.

    A task that is killed cancels its execution by itself. But Airflow calls no kill handler when a deferred
    task is marked before its trigger has loaded, or a running one just as it defers, and a triggerer or an
    API may be down at that moment. Put this operator into a small DAG that runs every few minutes.

    It reads the marker that :class:`.LosantNotebookExecuteOperator` adds to the template context. It leaves
    alone executions without a marker, those that are to outlive their task (``wait_for_completion=False``,
    ``cancel_on_kill=False``), those of another Airflow, those younger than ``min_age``, and those of an
    iteration of a loop (Airflow 3.4) that is not known to have ended, while the DAG run has not. Set
    Airflow's ``[api] base_url``: without it, an execution from before its whole DAG run was cleared cannot be
    distinguished from one of another Airflow.

    The result (XCom) is a JSON dict: ``checked`` (number of active executions), ``cancelled`` (their ids),
    ``left`` (how many were left alone, by reason) and ``incomplete`` (ids of the notebooks whose log may have
    older entries within ``max_age`` than Losant returned; a warning says more).

    :param notebook_ids: IDs of the notebooks to check; by default all of the application. An empty list, or
        None as the output of another task or in a mapping, is no notebook. (templated)
    :param application_id: ID of the application; by default the connection's. (templated)
    :param min_age: Seconds (or timedelta) for which a new execution is left alone, because its task may just
        be deferring.
    :param max_age: Seconds (or timedelta) to look back in the execution log.
    :param losant_conn_id: The Airflow connection. (templated)
    :raises NotebookExecutionError: a notebook's log could not be read, or an execution not be cancelled; the
        others were handled all the same.
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
        self._is_whole_application = notebook_ids is None
        check_literals(self, LosantNotebookOrphanSweepOperator)

    def execute(self, context: Context) -> dict[str, Any]:
        """Check every active execution of every notebook, cancel the orphans, and return a report."""
        del context
        from airflow_provider_losant.hooks.losant import LosantHook
        from airflow_provider_losant.metrics import in_worker

        hook, metrics = LosantHook(self.losant_conn_id, self.application_id), in_worker()
        now = time.time()
        with permanent_errors_as_config_error():
            oldest = now - parse_argument("max_age", self.max_age)
            youngest = now - parse_argument("min_age", self.min_age)
        left: Counter[str] = Counter()
        cancelled: list[str] = []
        incomplete: list[str] = []
        problems: list[str] = []
        for execution in self._active(hook, oldest, incomplete, problems):
            execution_id = execution.ref.execution_id
            try:
                is_orphan, reason = self._decide(execution, youngest)
            except Exception as error:  # noqa: BLE001 - whatever Airflow's API raises; the others are checked
                problems.append(f"execution {execution_id} could not be checked: {error}")
                metrics.count("swept", outcome="failed")
                continue
            if not is_orphan:
                self.log.info("Execution %s is no orphan: %s", execution_id, reason)
                left[reason] += 1
                metrics.count("swept", outcome="left")
                continue
            if hook.client.run(cancel(execution.ref, reason, retries=2)) == "failed":
                problems.append(f"execution {execution_id} could not be cancelled")
                metrics.count("swept", outcome="failed")
            else:
                cancelled.append(execution_id)
                metrics.count("swept", outcome="cancelled")
        report = {
            "checked": sum(left.values()) + len(cancelled),
            "cancelled": cancelled,
            "left": dict(left),
            "incomplete": incomplete,
        }
        self.log.info("Orphan sweep: %s", report)
        if problems:
            raise NotebookExecutionError("; ".join(problems))
        return report

    def _notebooks(self, hook: LosantHook) -> Sequence[str]:
        if self._is_whole_application and not _is_mapped(self, "notebook_ids"):
            return [it.id for it in hook.list_notebooks()]
        # A template or a task may have returned nothing, which is no reason to sweep everything.
        given = () if self.notebook_ids is None else self.notebook_ids
        with permanent_errors_as_config_error():
            ids: Sequence[str] = parse_argument("notebook_ids", given)
        if not ids:
            self.log.info("notebook_ids is empty: no notebook is checked")
        return ids

    def _active(
        self, hook: LosantHook, oldest: float, incomplete: list[str], problems: list[str]
    ) -> list[Execution]:
        active: list[Execution] = []
        for notebook_id in self._notebooks(hook):
            ids = hook.resolve_application_id(), notebook_id
            retries = hook.settings.max_retries
            try:
                reading = hook.client.run(
                    read_log(
                        *ids,
                        back_to=oldest,
                        since=WHOLE_LOG,  # a queued execution may be missing in a log since some time
                        limit=LogLimit(SEARCH_LIMIT),
                        retries=retries,
                    )
                )
            except LosantError as error:
                problems.append(f"notebook {notebook_id}: {error}")
                continue
            if not reading.is_complete:
                # No failure: a log that only happens to have a round number of entries looks like that, too.
                self.log.warning("%s", reading.problem)
                incomplete.append(notebook_id)
            active += [it for it in reading.log.summaries(*ids) if it.status.is_active]
        return active

    def _decide(self, execution: Execution, youngest: float) -> tuple[bool, str]:
        """Return whether the execution is an orphan, and why."""
        owner = read_marker(execution)
        if owner is None:
            return False, "not submitted by Airflow"
        if not owner.may_sweep:
            return False, "may outlive its task"
        if execution.queued_time > youngest:
            return False, "younger than min_age"
        if (reason := _why_foreign(owner)) is not None:
            return False, reason
        task_instance: dict[str, Any] = {
            "dag_id": owner.dag_id,
            "task_id": owner.task_id,
            "run_id": owner.run_id,
            "map_index": owner.map_index,
        }
        awaited_id = None
        if owner.region:  # since Airflow 3.4
            state = looped_task_state(owner.dag_id, owner.task_id, owner.run_id, owner.region)
        elif (state := task_state(**task_instance)) in WAITING_STATES:
            awaited_id = XCom.get_one(key=EXECUTION_KEY, **task_instance)
        why = why_abandoned(state, execution.ref.execution_id, awaited_id)
        return (False, f"its task is {state}") if why is None else (True, why)


def _is_mapped(task: Any, argument: str) -> bool:
    """Return whether Airflow's mapping gives an argument, or may give it: its keys may be another task's."""
    declared = task.dag.get_task(task.task_id) if task.has_dag() else task
    if not hasattr(declared, "expand_input"):
        return False
    given = declared.expand_input.value
    if isinstance(given, Sequence):  # the dictionaries of expand_kwargs()
        return any(not isinstance(it, Mapping) or argument in it for it in given)
    return argument in given if isinstance(given, Mapping) else True


def _why_foreign(owner: Owner) -> str | None:
    """Return why an owner is not one of this Airflow; None if it is."""
    deployment = deployment_id()
    if deployment and owner.deployment == deployment:
        return None
    is_known, started = dag_run_start(owner.dag_id, owner.run_id)
    if started is not None and owner.dag_run_start == format_start(started):
        return None
    if is_known and not (deployment and owner.deployment):
        return "its Airflow is unknown; set [api] base_url"
    return "submitted by another Airflow"
