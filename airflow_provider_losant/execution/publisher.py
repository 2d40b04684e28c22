# SPDX-License-Identifier: Apache-2.0
"""Deliver the result of an execution: the task's result, its outlet events, and what OpenLineage gets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import AirflowFailException
from airflow_provider_losant.api.defaults import RETRY_ON
from airflow_provider_losant.api.fields import one_line
from airflow_provider_losant.api.flows.report import select_report
from airflow_provider_losant.api.model import ExecutionRef
from airflow_provider_losant.assets.notebook import fill_outlet_events
from airflow_provider_losant.exceptions import NotebookOutputError
from airflow_provider_losant.execution.outputs import VALUES_KEY
from airflow_provider_losant.execution.result import result_or_raise
from airflow_provider_losant.links.report import LosantReportLink, report_links_enabled
from airflow_provider_losant.metrics import in_worker
from airflow_provider_losant.openlineage.collect import collect

if TYPE_CHECKING:
    from airflow_provider_losant._compat import BaseOperator, Context
    from airflow_provider_losant.api.flows.outcome import Outcome
    from airflow_provider_losant.execution.outputs import OutputPlan, RunFlow
    from airflow_provider_losant.hooks.losant import LosantHook
    from airflow_provider_losant.openlineage.collect import Report


class ResultPublisher:
    """
    Publishes what becomes known of one execution.

    :param task: Its outlets get events.
    :param outputs: What the task does with outputs.
    :param is_child: Returns whether the task itself has submitted the execution.
    :param is_counted: Returns whether the end of the execution is counted in the metrics of this task.
    :ivar report: What OpenLineage gets after the end of the task; None while no execution is known.
    """

    report: Report | None = None

    def __init__(
        self,
        task: BaseOperator,
        context: Context,
        hook: LosantHook,
        outputs: OutputPlan,
        *,
        is_child: Callable[[], bool] = lambda: False,
        is_counted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._task = task
        self._context = context
        self._hook = hook
        self._outputs = outputs
        self._is_child = is_child
        self._is_counted = is_counted
        self._uncounted: Mapping[str, Any] | None = None

    def collect(self, result: Mapping[str, Any], outcome: Outcome | None = None) -> None:
        """Collect what OpenLineage gets, which has to happen before the task ends or fails."""
        self.report = collect(self._hook, result, outcome, is_child=self._is_child)

    def result_or_raise(
        self,
        outcome: Outcome,
        *,
        url: str,
        limit: str,
        fate: str = "",
        retry_on: Collection[str] = RETRY_ON,
    ) -> dict[str, Any]:
        """
        Return the result of a completed execution, after collecting its lineage.

        The printed output, and the outputs of an execution that did not complete, are delivered before.

        :param url: The notebook's page in Losant.
        :param limit: The argument that set the deadline, with its value.
        :param fate: What became of an execution whose wait was given up; empty if a retry will reconnect.
        :param retry_on: Statuses of an ended execution after which Airflow may retry.
        :raises NotebookExecutionError: the execution did not complete, or its status is unknown.
        """
        self.collect(outcome.result, outcome)
        log = self._task.log.log
        if outcome.ending == "ended":
            self._uncounted = outcome.result
            if not outcome.is_success:
                self.count_execution()
        try:
            return result_or_raise(outcome, url=url, limit=limit, log=log, fate=fate, retry_on=retry_on)
        finally:
            if outcome.ending == "ended":
                self._deliver_despite_failure(outcome)

    def deliver(self, result: dict[str, Any], ref: ExecutionRef, run: RunFlow) -> dict[str, Any]:
        """
        Deliver the outputs of a completed execution, and return the result with what they add to it.

        :param run: Runs a flow in the task's process, so that a kill ends it.
        :raises NotebookOutputError: the outputs could not be delivered.
        :raises LosantConfigError: the values are missing, too large, or no JSON.
        """
        try:
            return result | self._outputs.deliver(ref, run, self._hook.client.settings.max_retries)
        except NotebookOutputError as error:
            error.describe(result)
            raise
        except AirflowFailException:
            self.count_execution()  # no retry will do it
            raise

    def _deliver_despite_failure(self, outcome: Outcome) -> None:
        # The client's own run(): a kill must end the task, and not be one more warning.
        client, log, result = self._hook.client, self._task.log.log, outcome.result
        ids = ("application_id", "notebook_id", "execution_id")
        ref = ExecutionRef(**{name: result[name] for name in ids})
        self._offer_report(outcome, ref)
        self._outputs.write_printed_output(ref, client.run, client.settings.max_retries, log)
        if not outcome.is_success:
            self._outputs.deliver_after_failure(ref, client.run, client.settings.max_retries, log)

    def _offer_report(self, outcome: Outcome, ref: ExecutionRef) -> None:
        """Give the task the link to its report, if there is one; without the link the task is as good."""
        if not report_links_enabled():
            return
        result = outcome.result
        is_known = select_report(result.get("outputs", {}), is_success=outcome.is_success) is not None
        if not is_known and not result.get("files_left_out"):  # one of those may be the report
            return
        try:
            LosantReportLink().offer(self._context, ref, self._hook.losant_conn_id)
        except Exception as error:  # noqa: BLE001 - whatever an XCom backend raises
            self._task.log.warning("The link to the report could not be stored: %s", one_line(error))

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
        self.count_execution()
        return result

    def count_execution(self) -> None:
        """
        Count the execution in the metrics, once.

        A completed one is counted when nothing is left to do that could fail, because a retry would count it
        again.
        """
        ended, self._uncounted = self._uncounted, None
        if ended is not None and self._is_counted():
            in_worker().execution_ended(ended)

    def on_failure(self, failure: BaseException, *, is_last_try: bool) -> None:
        """Count the execution although the task fails, if no retry will do it."""
        if is_last_try or isinstance(failure, AirflowFailException):
            self.count_execution()
