# SPDX-License-Identifier: Apache-2.0
"""Run a notebook as a task."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow_provider_losant._compat import (
    TRIGGER_FAILED,
    AirflowSkipException,
    BaseOperator,
    conf,
)
from airflow_provider_losant.api import flows
from airflow_provider_losant.api.errors import LosantError
from airflow_provider_losant.api.instants import instant, seconds, spell
from airflow_provider_losant.api.order import Order, Started, Terms
from airflow_provider_losant.api.watch import Outcome, Patience, Target
from airflow_provider_losant.ending import finish
from airflow_provider_losant.exceptions import (
    LosantConfigError,
    NotebookExecutionError,
    NotebookNotStarted,
    refusals_are_final,
)
from airflow_provider_losant.links.notebook import LosantNotebookLink
from airflow_provider_losant.operators.leash import Leash
from airflow_provider_losant.operators.orders import make_gate, make_order, remember

if TYPE_CHECKING:
    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.api.gate import Gate, IfRunning, OnExceeded, Waiting, Window
    from airflow_provider_losant.api.model import ExecutionRef
    from airflow_provider_losant.hooks.losant import LosantHook

DAY = 24 * 3600.0
NET_MARGIN = 120.0
MAX_TRIGGER_FAILURES = 3
FAILURES_KEY = "trigger_failures"
ADOPTED_KEY = "is_adopted"
BEGAN_KEY = "waiting_since"


class LosantNotebookExecuteOperator(BaseOperator):
    """
    Run a Losant notebook, and wait until it has ended.

    One run belongs to one task: after a worker crash the retry takes over the run that is already there,
    and a run whose task is killed is cancelled. While it waits, a deferrable task occupies no worker.

    The result (XCom) is a JSON dict: ``execution_id``, ``notebook_id``, ``application_id``, ``status``,
    ``relative_to``, ``queued_at``, ``started_at``, ``finished_at`` (ISO-8601), ``durations`` (seconds in
    ``queue``, ``inputs``, ``notebook``, ``outputs``, ``total``), ``inputs`` and ``outputs`` (by file name:
    ``size`` in bytes and ``content_type``), and ``url`` of the notebook in Losant.

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
    :param listing_patience: Seconds (or timedelta) that Losant's log may lag behind an order; only after
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
        listing_patience: float | timedelta = timedelta(minutes=1),
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
        self.listing_patience = listing_patience
        self.if_running = if_running
        self.max_minutes = max_minutes
        self.minutes_window = minutes_window
        self.on_exceeded = on_exceeded
        self.save_outputs_to = save_outputs_to
        self.losant_conn_id = losant_conn_id
        self._leash = Leash(may_cancel=cancel_on_kill)

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the run, or find the one that an earlier try started; then wait for it."""
        return self._run(context, began=time.time())

    def execute_when_free(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Judge again, after a run has ended that had to be waited for."""
        del event
        return self._run(context, began=self._own_xcom(context, BEGAN_KEY) or time.time())

    def _run(self, context: Context, began: float) -> dict[str, Any]:
        hook = self._open_hook()
        order = make_order(self, context, hook)
        gate = make_gate(self, hook, began, give_up_at=self._deadline(context, began)[0])
        started = self._start(order, gate, hook, is_retry=context["ti"].try_number > 1)
        if not isinstance(started, Started):
            self._defer_until_free(context, started.execution.ref, began)
        if started.is_ours:
            remember(self, context, started.ref)
        else:
            context["ti"].xcom_push(key=ADOPTED_KEY, value=True)
        url = self._announce(context, started.ref, hook)
        if not self.wait_for_completion:
            self._leash.let_go()
            return started.to_result(order) | {"url": url}
        return self._wait(context, hook, started, is_new=started.execution is None)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """
        Take over from the trigger.

        The event may be another run's: SQLite gives the id of a trigger that is gone to the next one, and
        Airflow then hands the old one's event to the task that has the id now.
        """
        outcome = Outcome.from_event(event)
        mine = self._own_xcom(context, "execution_id")
        if mine is not None and mine != outcome.result["execution_id"]:
            self.log.warning("The trigger told of %s, not of %s", outcome.result["execution_id"], mine)
            return self._look_again(context, mine)
        return self._finish(context, self._open_hook(), outcome)

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> dict[str, Any]:
        """
        Take over from the trigger, also where Airflow would fail the task because the trigger did not fire.

        A run that is well does not pay for a triggerer that is not: it is looked at, and its wait begun
        again, up to ``MAX_TRIGGER_FAILURES`` times; then the worker waits itself.
        """
        if next_method != TRIGGER_FAILED or not (mine := self._own_xcom(context, "execution_id")):
            return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[no-any-return]
        failures = (self._own_xcom(context, FAILURES_KEY) or 0) + 1
        context["ti"].xcom_push(key=FAILURES_KEY, value=failures)
        told = next_kwargs or {}
        self.log.warning("The trigger came to no end (%s): %s", failures, told.get("error"))
        if told.get("traceback"):
            self.log.warning("%s", "".join(told["traceback"]))
        return self._look_again(context, mine, may_defer=failures <= MAX_TRIGGER_FAILURES)

    def _look_again(self, context: Context, execution_id: str, *, may_defer: bool = True) -> dict[str, Any]:
        hook = self._open_hook()
        ref = hook.ref(self.notebook_id, execution_id)
        is_ours = not self._own_xcom(context, ADOPTED_KEY)
        if is_ours:
            self._leash.hold(ref)
        started = Started(ref=ref, submitted_at=ref.created_at, is_ours=is_ours)
        return self._wait(context, hook, started, may_defer=may_defer)

    def _own_xcom(self, context: Context, key: str) -> Any:
        """Return what this try pushed before it was deferred; Airflow clears it when a new try begins."""
        ti = context["ti"]
        return ti.xcom_pull(task_ids=self.task_id, key=key, map_indexes=ti.map_index)

    def on_kill(self) -> None:
        """Cancel the run, and keep the interrupted code from going on."""
        self._leash.kill()

    def _open_hook(self) -> LosantHook:
        """Resolve the connection now: when the task is killed it is too late to ask for it."""
        from airflow_provider_losant.hooks.losant import LosantHook

        hook = LosantHook(self.losant_conn_id, self.application_id)
        self._leash.attach(hook.client, self.log.log)
        return hook

    def _start(
        self, order: Order, gate: Gate | None, hook: LosantHook, *, is_retry: bool
    ) -> Started | Waiting:
        from airflow_provider_losant.api.gate import Closed, Skipped

        terms = Terms(
            retries=hook.settings.max_retries,
            listing_patience=seconds(self.listing_patience, field="listing_patience"),
            max_poll_outage=seconds(self.max_poll_outage, field="max_poll_outage"),
            lookback=seconds(self.timeout, field="timeout") + DAY,
            cancel_stale=self.cancel_on_kill,
        )
        try:
            return self._leash.start(hook.client, order, terms, gate=gate, is_retry=is_retry)
        except Skipped as reason:
            raise AirflowSkipException(str(reason)) from reason
        except Closed as reason:
            raise NotebookNotStarted(str(reason)) from reason
        except LosantError as error:
            where = f"No run of {order} was started through connection {self.losant_conn_id!r}"
            raised = NotebookExecutionError if error.is_passing else LosantConfigError
            raise raised(f"{where}: {error}") from error

    def _announce(self, context: Context, ref: ExecutionRef, hook: LosantHook) -> str:
        """Show the run to people the moment it has an id."""
        url = hook.link(ref)
        context["ti"].xcom_push(key="execution_id", value=ref.execution_id)
        LosantNotebookLink().push(context, url)
        self.log.info("Execution %s in Losant: %s", ref.execution_id, url)
        return url

    def _wait(
        self,
        context: Context,
        hook: LosantHook,
        started: Started,
        *,
        is_new: bool = False,
        may_defer: bool = True,
    ) -> dict[str, Any]:
        """
        Wait where the DAG's author wants it.

        What is not new may have ended already: it is looked at here once before its wait is handed over.
        """
        deadline, _ = self._deadline(context, started.submitted_at)
        target = Target.of(started.ref)
        patience = Patience(
            poll_interval=seconds(self.poll_interval, field="poll_interval"),
            deadline=deadline,
            max_poll_outage=seconds(self.max_poll_outage, field="max_poll_outage"),
        )
        first_look = started.submitted_at + patience.poll_interval if is_new else 0.0
        if self.deferrable and may_defer and deadline > time.time():
            if not is_new:
                glance = self._leash.run(hook.client, flows.watch(target, replace(patience, deadline=0.0)))
                if glance.ending == "ended":
                    return self._finish(context, hook, glance)
            self._defer(target, patience, first_look, may_cancel=started.is_ours)
        may_cancel = self.cancel_on_timeout and started.is_ours
        whole = flows.watch(target, patience, first_look=first_look, cancel_on_timeout=may_cancel)
        return self._finish(context, hook, self._leash.run(hook.client, whole))

    def _deadline(self, context: Context, submitted_at: float) -> tuple[float, str]:
        """
        Return when the wait is over, and which argument says so.

        Airflow does not watch ``execution_timeout`` while a task is deferred, so the trigger has to.
        """
        ends = [(submitted_at + seconds(self.timeout, field="timeout"), f"timeout ({self.timeout})")]
        began = getattr(context["ti"], "start_date", None)
        if self.deferrable and self.execution_timeout and began:
            end = began.timestamp() + self.execution_timeout.total_seconds()
            ends.append((end, f"execution_timeout ({self.execution_timeout})"))
        return min(ends)

    def _defer_until_free(self, context: Context, ref: ExecutionRef, began: float) -> NoReturn:
        """Wait in the triggerer for the end of somebody else's run, which nothing here may stop."""
        patience = Patience(
            poll_interval=seconds(self.poll_interval, field="poll_interval"),
            deadline=self._deadline(context, began)[0],
            max_poll_outage=seconds(self.max_poll_outage, field="max_poll_outage"),
        )
        self.log.info("The %s goes on; waiting for its end", ref)
        # An XCom and no argument of the method, for dag.test() passes those not on.
        context["ti"].xcom_push(key=BEGAN_KEY, value=began)
        self._defer(Target.of(ref), patience, 0.0, may_cancel=False, method_name="execute_when_free")

    def _defer(
        self,
        target: Target,
        patience: Patience,
        first_look: float,
        *,
        may_cancel: bool,
        method_name: str = "execute_complete",
    ) -> NoReturn:
        from airflow_provider_losant.triggers.notebook import LosantNotebookExecutionTrigger

        self._leash.let_go()
        trigger = LosantNotebookExecutionTrigger(
            losant_conn_id=self.losant_conn_id,
            **asdict(target),
            **asdict(patience),
            first_look=first_look,
            cancel_on_kill=self.cancel_on_kill and may_cancel,
            cancel_on_timeout=self.cancel_on_timeout and may_cancel,
        )
        # Airflow's own timeout skips us, so it is only a net under our deadline: for a dead triggerer.
        net = patience.deadline - time.time() + 2 * patience.poll_interval + NET_MARGIN
        self.defer(
            trigger=trigger,
            method_name=method_name,
            timeout=timedelta(seconds=net),
        )

    def _finish(self, context: Context, hook: LosantHook, outcome: Outcome) -> dict[str, Any]:
        self._leash.let_go()
        self._check_query_time(outcome)
        ref = hook.ref(self.notebook_id, outcome.result["execution_id"])
        _, limit = self._deadline(context, ref.created_at)
        result = finish(outcome, url=hook.link(ref), limit=limit, log=self.log.log)
        if self.save_outputs_to is not None:
            result["saved_outputs"] = self._save_outputs(hook, ref)
        return result

    def _save_outputs(self, hook: LosantHook, ref: ExecutionRef) -> dict[str, str]:
        """Copy the outputs; should that fail, the retry finds the run completed and only copies again."""
        from airflow_provider_losant.api.outputs import Choice
        from airflow_provider_losant.landing import Folder

        with refusals_are_final():
            folder = Folder.at(self.save_outputs_to or "", field="save_outputs_to")
            return self._leash.run(hook.client, folder.land(ref, Choice(), hook.settings.max_retries))

    def _check_query_time(self, outcome: Outcome) -> None:
        """Losant reads a time it does not understand as now, and says so nowhere but in its log."""
        used = outcome.result.get("relative_to")
        if self.relative_to is None or used is None:
            return
        asked = spell(instant(self.relative_to, field="relative_to"))
        if asked != used:
            self.log.warning("relative_to: asked for %s, but the run used %s", asked, used)
