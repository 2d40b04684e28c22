# SPDX-License-Identifier: Apache-2.0
"""Run a notebook as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_losant._compat import TRIGGER_FAILED, BaseOperator, conf
from airflow_provider_losant.links.notebook import LosantNotebookLink

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.api.flows.start_policy import IfRunning, OnExceeded, Window
    from airflow_provider_losant.execution.session import ExecuteSession


class LosantNotebookExecuteOperator(BaseOperator):
    """
    Run a Losant notebook, and wait until it has ended.

    One run belongs to one task: after a worker crash the retry takes over the run that is already there,
    and a run whose task is killed is cancelled. While it waits, a deferrable task occupies no worker.

    The result (XCom) is a JSON dict: ``execution_id``, ``notebook_id``, ``application_id``, ``status``,
    ``relative_to``, ``queued_at``, ``started_at``, ``finished_at`` (ISO-8601), ``durations`` (seconds in
    ``queue``, ``inputs``, ``notebook``, ``outputs``, ``total``; what is not known is None),
    ``max_run_minutes`` (what the run was allowed; it uses those of ``notebook``), ``inputs`` and ``outputs``
    (by file name: ``size`` in bytes and ``content_type``), and ``url`` of the notebook in Losant. The events
    of the task's ``outlets`` say most of it too.

    See Losant's `Notebook: Execute <https://docs.losant.com/rest-api/notebook/#execute>`__.

    :param notebook_id: ID of the notebook to run. (templated)
    :param application_id: ID of its application; by default the connection's. (templated)
    :param relative_to: Query time, to which the ``start`` and ``end`` of the notebook's inputs are relative:
        datetime, ISO-8601 text, or epoch *milliseconds*; UTC where no time zone is given. None is the
        moment Losant takes the order. (templated)
    :param template_context: What the notebook finds in ``INPUT_DIR/context.json``, and what fills the
        ``{{...}}`` of its inputs and outputs: a mapping, or JSON text; 32,767 characters at the most.
        (templated)
    :param notification_email: Whom Losant tells when the run has ended (Losant's option ``email``; an
        operator's ``email`` is the address for Airflow's own alerts). (templated)
    :param callback_url: Where Losant posts to when the run has ended. (templated)
    :param wait_for_completion: False ends the task as soon as Losant has taken the order.
    :param deferrable: Wait in the triggerer instead of in a worker.
    :param poll_interval: Seconds (or timedelta) between looks at the notebook's log.
    :param timeout: Seconds (or timedelta) to wait, counted from the submission, whichever try waits.
    :param cancel_on_kill: Cancel the run when the task is killed, marked or cleared.
    :param cancel_on_timeout: Cancel the run when ``timeout`` has passed.
    :param durable: Add the key ``airflow`` to the template context, by which a retry finds the run again.
    :param max_poll_outage: Seconds (or timedelta) without one readable answer from Losant after which the
        task fails; the run is left alone, and a retry takes it over.
    :param max_log_lag: Seconds (or timedelta) that Losant's log may lag behind an order; only after
        that is an order whose answer was lost, or of which a retry finds no trace, placed again.
    :param if_running: What to do while another run of the notebook goes on: ``start`` one beside it, ``wait``
        for its end, ``adopt`` it if it has the same context and query time, ``skip`` the task, ``fail``, or
        ``cancel_previous`` runs and wait until they have ended. A run of an earlier try is taken over first.
    :param max_minutes: Run minutes that the notebook may have used before; when it has, nothing is started.
    :param minutes_window: Since when they count: the ``day`` (UTC), or the ``billing_period``.
    :param on_exceeded: ``fail`` or ``skip`` the task then.
    :param save_outputs_to: A folder in any object storage, such as ``s3://bucket/reports/{{ ds }}``, into
        which all outputs of a run that ended well are copied; ``saved_outputs`` of the result is the path of
        each by its name. :class:`.LosantNotebookOutputsToObjectStorageOperator` can choose among them.
        (templated)
    :param losant_conn_id: The Airflow connection. (templated)
    :raises LosantConfigError: an argument, the connection or the token is not right; nothing was started.
    :raises NotebookNotStarted: ``if_running`` or ``max_minutes`` did not allow it.
    :raises NotebookExecutionFailed: the notebook ended with an error.
    :raises NotebookExecutionTimedOut: it ran out of its run minutes.
    :raises NotebookExecutionCanceled: somebody cancelled it.
    :raises NotebookWaitTimedOut: it had not ended in time.
    :raises NotebookExecutionError: it could not be started, or Losant could not be asked about it.
    """

    template_fields: Sequence[str] = (
        "notebook_id",
        "application_id",
        "relative_to",
        "template_context",
        "notification_email",
        "callback_url",
        "save_outputs_to",
        "losant_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"template_context": "json"}
    operator_extra_links = (LosantNotebookLink(),)
    ui_color = "#e3f4e1"

    def __init__(
        self,
        *,
        notebook_id: str,
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
        max_poll_outage: float | timedelta = timedelta(minutes=10),
        max_log_lag: float | timedelta = timedelta(minutes=1),
        if_running: IfRunning = "start",
        max_minutes: float | None = None,
        minutes_window: Window = "day",
        on_exceeded: OnExceeded = "fail",
        save_outputs_to: str | PathLike[str] | None = None,
        losant_conn_id: str = "losant_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.notebook_id = notebook_id
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
        self.max_poll_outage = max_poll_outage
        self.max_log_lag = max_log_lag
        self.if_running = if_running
        self.max_minutes = max_minutes
        self.minutes_window = minutes_window
        self.on_exceeded = on_exceeded
        self.save_outputs_to = save_outputs_to
        self.losant_conn_id = losant_conn_id
        self._is_killed = False
        self._session: ExecuteSession | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit an execution, or reconnect to that of an earlier try; then wait for it."""
        return self._open_session(context).start_and_wait()

    def execute_after_wait(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Continue after another execution that had to be waited for has ended."""
        del event
        return self._open_session(context).start_and_wait(is_resumed=True)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Continue with the event of the trigger."""
        return self._open_session(context).complete(event)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> dict[str, Any]:
        """Continue after the deferral, also where Airflow would fail the task because its trigger failed."""
        from airflow_provider_losant.execution.session import EXECUTION_KEY, pull_own_xcom

        if next_method == TRIGGER_FAILED and pull_own_xcom(self, context, EXECUTION_KEY):
            return self._open_session(context).recover(next_kwargs or {})
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

    def _open_session(self, context: Context) -> ExecuteSession:
        from airflow_provider_losant.execution.session import ExecuteSession

        self._session = session = ExecuteSession(self, context)
        if self._is_killed:  # the kill came before there was a session
            session.kill()
        return session
