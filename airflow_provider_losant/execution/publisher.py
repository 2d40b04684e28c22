# SPDX-License-Identifier: Apache-2.0
"""Deliver the result of an execution: the task's result, its outlet events, and what OpenLineage gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.assets.notebook import fill_outlet_events
from airflow_provider_losant.execution.outputs import VALUES_KEY
from airflow_provider_losant.execution.result import result_or_raise
from airflow_provider_losant.openlineage.collect import collect

if TYPE_CHECKING:
    from airflow_provider_losant._compat import BaseOperator, Context
    from airflow_provider_losant.api.flows.outcome import Outcome
    from airflow_provider_losant.hooks.losant import LosantHook
    from airflow_provider_losant.openlineage.collect import Report


class ResultPublisher:
    """
    Publishes what becomes known of one execution.

    :param task: Its outlets get events.
    :param is_child: Returns whether the task itself has submitted the execution.
    :ivar report: What OpenLineage gets after the end of the task; None while no execution is known.
    """

    report: Report | None = None

    def __init__(
        self,
        task: BaseOperator,
        context: Context,
        hook: LosantHook,
        *,
        is_child: Callable[[], bool] = lambda: False,
    ) -> None:
        self._task = task
        self._context = context
        self._hook = hook
        self._is_child = is_child

    def collect(self, result: Mapping[str, Any], outcome: Outcome | None = None) -> None:
        """Collect what OpenLineage gets, which has to happen before the task ends or fails."""
        self.report = collect(self._hook, result, outcome, is_child=self._is_child)

    def result_or_raise(self, outcome: Outcome, *, url: str, limit: str, fate: str = "") -> dict[str, Any]:
        """
        Return the result of a completed execution, after collecting its lineage.

        :param url: The notebook's page in Losant.
        :param limit: The argument that set the deadline, with its value.
        :param fate: What became of an execution whose wait was given up; empty if a retry will reconnect.
        :raises NotebookExecutionError: the execution did not complete, or its status is unknown.
        """
        self.collect(outcome.result, outcome)
        return result_or_raise(outcome, url=url, limit=limit, log=self._task.log.log, fate=fate)

    def publish(self, result: dict[str, Any]) -> dict[str, Any]:
        """
        Fill the events of the task's outlets, and return the result.

        The values of the notebook are only for the tasks of the DAG, so they get an XCom, but neither an
        event nor lineage.
        """
        public = {name: it for name, it in result.items() if name != VALUES_KEY}
        if self.report is not None:
            self.report = self.report.with_result(public)
        fill_outlet_events(self._task, self._context, public, self._hook.settings.base_url)
        if VALUES_KEY in result:
            self._context["ti"].xcom_push(key=VALUES_KEY, value=result[VALUES_KEY])
        return result
