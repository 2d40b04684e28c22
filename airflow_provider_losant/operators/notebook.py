# SPDX-License-Identifier: Apache-2.0
"""Run a notebook as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_losant._compat import TRIGGER_FAILED, BaseOperator, conf
from airflow_provider_losant.api.defaults import MAX_LOG_LAG, RETRY_ON
from airflow_provider_losant.links import optional_links
from airflow_provider_losant.links.notebook import LosantNotebookLink
from airflow_provider_losant.templates import TextTemplates

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.api.defaults import IfRunning, OnExceeded, SaveOutputsWhen, Window
    from airflow_provider_losant.execution.session import ExecuteSession


class LosantNotebookExecuteOperator(TextTemplates, BaseOperator):
    """
    Run a Losant notebook, and wait until its execution has ended.

    The task runs the notebook exactly once: if the worker crashes, the retry reconnects to the execution that
    is already active, and if the task is killed, the execution is cancelled. While it waits, a deferrable
    task occupies no worker.

    The result (XCom) is a JSON dict: ``execution_id``, ``notebook_id``, ``application_id``, ``status``,
    ``relative_to``, ``queued_at``, ``started_at``, ``finished_at`` (ISO-8601), ``durations`` (seconds in
    ``queue``, ``inputs``, ``notebook``, ``outputs``, ``total``; None where unknown), ``max_run_minutes``
    (allowed run minutes; those of ``notebook`` count), ``inputs`` and ``outputs`` (by file name: ``size`` in
    bytes and ``content_type``), and ``url`` of the notebook in Losant. The events of the task's ``outlets``
    contain most of it, too. ``values_from`` and ``save_outputs_to`` add ``values`` and ``saved_outputs``.

    See Losant's `Notebook: Execute <https://docs.losant.com/rest-api/notebook/#execute>`__.

    :param notebook_id: ID of the notebook to run; give either this or ``notebook_name``. (templated)
    :param notebook_name: The notebook's exact name, by which it is found when the task starts, upper and
        lower case included. A retry finds its execution also if the notebook has been renamed since.
        (templated)
    :param application_id: ID of its application; by default the connection's. (templated)
    :param relative_to: Query time, to which the ``start`` and ``end`` of the notebook's inputs are relative:
        datetime, ISO-8601 string, or epoch *milliseconds*; UTC if no time zone is given. Defaults to the time
        at which Losant receives the request. (templated)
    :param template_context: What the notebook reads from ``INPUT_DIR/context.json``, and the values for the
        ``{{...}}`` of its inputs and outputs: a mapping, or the text of a JSON object; at most 32,767
        characters. Timestamps, decimals, NumPy's numbers, results of mapped tasks and more are converted to
        JSON. (templated)
    :param notification_email: Losant sends an e-mail to this address when the execution has ended (Losant's
        option ``email``; an operator's ``email`` is the address for Airflow's own alerts). (templated)
    :param callback_url: Losant sends a POST request to this URL when the execution has ended. (templated)
    :param wait_for_completion: False ends the task as soon as Losant has accepted the submission.
    :param deferrable: Wait in the triggerer instead of in a worker.
    :param poll_interval: Seconds (or timedelta) between polls of the notebook's execution log.
    :param timeout: Seconds (or timedelta) to wait, counted from the submission, over all tries; at most ten
        years.
    :param cancel_on_kill: Cancel the execution when the task is killed, marked or cleared, and when its last
        try fails while the execution is still active.
    :param cancel_on_timeout: Cancel the execution when ``timeout``, or Airflow's ``execution_timeout``, is
        over.
    :param durable: Add the marker (key ``airflow``) to the template context, by which a retry reconnects to
        the execution.
    :param reconnect_after_clear: When a user clears the task, reconnect to its latest execution, if that is
        active or completed, instead of submitting a new one; for example to get the result of an execution
        that completed after the task had failed. Needs ``durable`` and Airflow's ``[api] base_url``.
    :param max_poll_outage: Seconds (or timedelta) without a readable response from Losant after which the
        task fails; the execution is not cancelled, and a retry reconnects to it.
    :param max_log_lag: Seconds (or timedelta) that Losant's execution log may lag behind a submission. Only
        after that a submission whose response was lost, or of which a retry finds no trace, is repeated, and
        a 404 in response to a cancel request is accepted.
    :param if_running: What to do while another execution of the notebook is active: ``start`` a second one,
        ``wait`` until it has ended, ``adopt`` it if it has the same template context and query time, ``skip``
        the task, ``fail``, or ``cancel_previous`` executions and wait until they have ended. An execution of
        an earlier try is reconnected to first.
    :param max_minutes: Run minutes that the notebook may have used before; if it has used more, nothing is
        submitted.
    :param minutes_window: Since when they count: the ``day`` (UTC), or the ``billing_period``.
    :param on_exceeded: ``fail`` or ``skip`` the task then.
    :param save_outputs_to: A folder in any object storage, such as ``s3://bucket/reports/{{ run_id }}``, into
        which all outputs of a completed execution are copied; ``saved_outputs`` of the result contains the
        path of each by its name. A relative path begins at the working directory of the worker. In a mapped
        task, the path has to differ between map indexes.
        :class:`.LosantNotebookOutputsToObjectStorageOperator` can select some. (templated)
    :param save_outputs_when: ``success``, or ``always``: then the outputs of an execution that ended without
        completing are copied to ``failed/<execution id>`` in that folder, if possible. If not, that is a
        warning in the task log, and the task fails with the notebook's own error.
    :param values_from: Name of a JSON output of the notebook, such as ``values.json``, of at most 48,000
        bytes: an object or an array, which becomes ``values`` of the result and the XCom ``values``. An
        output that is missing, too large or no JSON is an error that Airflow does not retry. Empty for no
        values. (templated)
    :param log_output: Write the end of the printed output (``result.log``, at most 64 KB) to the task log,
        whether the execution completed or not.
    :param retry_on: Statuses of an execution (``errored``, ``timeout``, ``canceled``) after which a retry of
        the task runs the notebook again: a sequence, or one of them. After any other, the task fails without
        a retry.
    :param losant_conn_id: The Airflow connection. (templated)
    :raises LosantConfigError: an argument, the connection or the token is invalid, or the execution has
        completed without the JSON that ``values_from`` names.
    :raises NotebookNotStarted: ``if_running`` or ``max_minutes`` did not allow a submission.
    :raises NotebookExecutionFailed: the notebook ended with an error.
    :raises NotebookExecutionTimedOut: it used up the run minutes that Losant allows it.
    :raises NotebookExecutionCanceled: it was cancelled.
    :raises NotebookExecutionReplaced: it was cancelled by another task with
        ``if_running="cancel_previous"``, which a retry does not do in turn.
    :raises NotebookWaitTimedOut: it had not ended within ``timeout``.
    :raises NotebookExecutionError: the submission failed, or Losant could not be polled.
    """

    template_fields: Sequence[str] = (
        "notebook_id",
        "notebook_name",
        "application_id",
        "relative_to",
        "template_context",
        "notification_email",
        "callback_url",
        "save_outputs_to",
        "values_from",
        "losant_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"template_context": "json"}
    operator_extra_links = (LosantNotebookLink(), *optional_links())
    ui_color = "#e3f4e1"

    def __init__(
        self,
        *,
        notebook_id: str | None = None,
        notebook_name: str | None = None,
        application_id: str | None = None,
        relative_to: datetime | str | float | None = None,
        template_context: Mapping[str, Any] | str | None = None,
        notification_email: str | None = None,
        callback_url: str | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float | timedelta = 20,
        timeout: float | timedelta = timedelta(hours=24),
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        durable: bool = True,
        reconnect_after_clear: bool = False,
        max_poll_outage: float | timedelta = timedelta(minutes=10),
        max_log_lag: float | timedelta = timedelta(seconds=MAX_LOG_LAG),
        if_running: IfRunning = "start",
        max_minutes: float | None = None,
        minutes_window: Window = "day",
        on_exceeded: OnExceeded = "fail",
        save_outputs_to: str | PathLike[str] | None = None,
        save_outputs_when: SaveOutputsWhen = "success",
        values_from: str | None = None,
        log_output: bool = False,
        retry_on: str | Sequence[str] = RETRY_ON,
        losant_conn_id: str = "losant_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.notebook_id = notebook_id
        self.notebook_name = notebook_name
        self.application_id = application_id
        self.relative_to = relative_to
        self.template_context = template_context
        self.notification_email = notification_email
        self.callback_url = callback_url
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.durable = durable
        self.reconnect_after_clear = reconnect_after_clear
        self.max_poll_outage = max_poll_outage
        self.max_log_lag = max_log_lag
        self.if_running = if_running
        self.max_minutes = max_minutes
        self.minutes_window = minutes_window
        self.on_exceeded = on_exceeded
        self.save_outputs_to = save_outputs_to
        self.save_outputs_when = save_outputs_when
        self.values_from = values_from
        self.log_output = log_output
        self.retry_on = retry_on
        self.losant_conn_id = losant_conn_id
        self._is_killed = False
        self._session: ExecuteSession | None = None
        self._check_arguments()

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit an execution, or reconnect to that of an earlier try; then wait for it."""
        return self._open_session(context).start_and_wait()

    def execute_after_wait(self, context: Context, event: dict[str, Any], **unknown: Any) -> dict[str, Any]:
        """Continue after another execution that had to be waited for has ended."""
        del event, unknown  # unknown are arguments that a newer version has stored with the deferral
        return self._open_session(context, is_resumed=True).start_and_wait(is_resumed=True)

    def execute_complete(self, context: Context, event: dict[str, Any], **unknown: Any) -> dict[str, Any]:
        """Continue with the event of the trigger."""
        del unknown  # arguments that a newer version has stored with the deferral
        return self._open_session(context, is_resumed=True).complete(event)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> dict[str, Any]:
        """Continue after the deferral, also where Airflow would fail the task because its trigger failed."""
        from airflow_provider_losant.execution.try_state import EXECUTION_KEY, pull_own_xcom

        if next_method == TRIGGER_FAILED and pull_own_xcom(self, context, EXECUTION_KEY):
            return self._open_session(context, is_resumed=True).recover(next_kwargs or {})
        return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[no-any-return]

    def on_kill(self) -> None:
        """Cancel the execution, and interrupt the code that waits for it."""
        self._is_killed = True
        if self._session is not None:
            self._session.kill()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return the lineage of the execution to OpenLineage; Airflow calls this after a failure, too."""
        from airflow_provider_losant.openlineage.emit import lineage_of_run

        report = None if self._session is None else self._session.report
        return lineage_of_run(report, self, task_instance)

    def _check_arguments(self) -> None:
        """Refuse what is certain to be wrong when the DAG is parsed."""
        from airflow_provider_losant.hooks.arguments import check_literals

        check_literals(self, LosantNotebookExecuteOperator)
        if self.save_outputs_when != "success" and self.save_outputs_to is None:
            from airflow_provider_losant.exceptions import LosantConfigError

            raise LosantConfigError(f"save_outputs_when: {self.save_outputs_when!r} needs save_outputs_to")
        is_literal = isinstance(self.values_from, str) and "{" not in self.values_from
        if not self.wait_for_completion and (is_literal or self.log_output):
            from airflow_provider_losant.execution.outputs import OutputPlan

            values_from = self.values_from if is_literal else None
            OutputPlan.parse(values_from=values_from, log_output=self.log_output, wait_for_completion=False)

    def _open_session(self, context: Context, *, is_resumed: bool = False) -> ExecuteSession:
        from airflow_provider_losant.execution.session import ExecuteSession

        self._session = session = ExecuteSession.open(self, context, is_resumed=is_resumed)
        if self._is_killed:  # the kill came before there was a session
            session.kill()
        return session
