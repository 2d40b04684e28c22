# SPDX-License-Identifier: Apache-2.0
"""
One ``execute()`` call of the execute operator at run time: submit, wait or defer, resume, finish.

It is not part of the operator's module, so that parsing a DAG file does not load all of this.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow_provider_losant._compat import AirflowException, AirflowTaskTimeout, heartbeat_timeout
from airflow_provider_losant.api.errors import LosantError
from airflow_provider_losant.api.flows.abandoned import Standstill, is_last_try
from airflow_provider_losant.api.flows.outcome import Outcome
from airflow_provider_losant.api.flows.polling import wait_for_execution
from airflow_provider_losant.api.flows.reconnect import ExecutionFinder, SubmissionUnknown
from airflow_provider_losant.api.flows.submission import Started, SubmitPolicy
from airflow_provider_losant.api.flows.submit import submit_once
from airflow_provider_losant.api.flows.wait import Target
from airflow_provider_losant.api.timestamps import DAY
from airflow_provider_losant.execution.arguments import ExecuteArguments
from airflow_provider_losant.execution.canceller import Canceller
from airflow_provider_losant.execution.failure import raise_config_failure, submit_failure
from airflow_provider_losant.execution.notebook import NotebookLookup
from airflow_provider_losant.execution.publisher import ResultPublisher
from airflow_provider_losant.execution.result import check_query_time
from airflow_provider_losant.execution.submission import build_submission, save_execution_id
from airflow_provider_losant.execution.try_state import EXECUTION_KEY, TryState, pull_own_xcom
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.links.notebook import LosantNotebookLink
from airflow_provider_losant.metrics import in_worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_provider_losant._compat import BaseOperator, Context
    from airflow_provider_losant.api.flows.start_policy import Blocked, StartPolicy
    from airflow_provider_losant.api.flows.steps import FileFlow
    from airflow_provider_losant.api.flows.submission import Submission
    from airflow_provider_losant.api.flows.wait import WaitConfig
    from airflow_provider_losant.api.model import ExecutionRef
    from airflow_provider_losant.openlineage.collect import Report

T = TypeVar("T")
MAX_TRIGGER_FAILURES = 3
CLOCK_ERROR = 3_600.0
"""Seconds by which the clocks of Airflow and Losant may differ where Losant may not return the whole log."""
MAX_ACTIVE = 7 * DAY
"""Seconds for which an execution from before a clear may be active, whatever ``timeout`` says."""


class ExecuteSession:
    """
    The work of one task in one process.

    The connection is resolved up front, because a kill must not query Airflow.

    :param task: The execute operator, whose arguments are checked here. (Its type would be an import cycle.)
    :param is_resumed: The task was deferred before.
    :raises LosantConfigError: an argument or the connection is missing or invalid.
    """

    def __init__(self, task: Any, context: Context, *, is_resumed: bool) -> None:
        self._task: BaseOperator = task
        self._context = context
        self._log = task.log.log
        self._hook = LosantHook(task.losant_conn_id, task.application_id)
        self._client = self._hook.client
        self._arguments = ExecuteArguments.parse(task, self._hook, context["ti"], is_resumed=is_resumed)
        self._state = TryState(task, context, is_resumed=is_resumed)
        self._canceller = Canceller(
            self._client,
            self._log,
            on_kill=self._arguments.cancel_on_kill,
            on_timeout=self._arguments.cancel_on_timeout,
            max_log_lag=self._arguments.max_log_lag,
            standstill=Standstill.before(heartbeat_timeout(), self._client.settings.timeout),
        )
        self._lookup = NotebookLookup(task, context, self._arguments, self._client, self._canceller)
        if is_resumed:
            self._lookup.resume(is_of_earlier_try=self._state.is_of_earlier_try)
        self._publisher = ResultPublisher(
            task,
            context,
            self._hook,
            self._arguments.outputs,
            is_child=lambda: not self._is_adopted(),
            is_counted=lambda: not self._is_adopted(),
        )

    @classmethod
    def open(cls, task: Any, context: Context, *, is_resumed: bool) -> ExecuteSession:
        """
        Check the arguments and the connection.

        :param is_resumed: The task was deferred before.
        :raises LosantConfigError: one is invalid, and no execution can exist.
        :raises NotebookExecutionError: one is invalid, but an execution may exist.
        """
        try:
            return cls(task, context, is_resumed=is_resumed)
        except AirflowException as error:  # also that Airflow does not know the connection
            raise_config_failure(error, task, context, is_resumed=is_resumed)

    @property
    def report(self) -> Report | None:
        """What OpenLineage gets after the end of the task."""
        return self._publisher.report

    def start_and_wait(self, *, is_resumed: bool = False) -> dict[str, Any]:
        """
        Submit the execution, or reconnect to that of an earlier try, and wait for it.

        :param is_resumed: The task has already waited for another execution to end.
        """
        arguments = self._arguments
        state = self._state.values if is_resumed else {}
        waiting_since = state.get("waiting_since", time.time())
        policy = arguments.start_policy(waiting_since, state.get("replaces", ()))
        with self._cancelling_when_given_up():
            submission = build_submission(arguments, self._context, self._log)
            started = self._submit(submission, policy)
            if not isinstance(started, Started):
                self._defer_until_unblocked(started, waiting_since)
            if started.is_reconnected:
                in_worker().count("reconnected")
            if not started.is_owned:
                self._state.set(is_adopted=True)
            elif arguments.durable:
                save_execution_id(self._context, started.ref, self._log)
            url = self._announce(started.ref)
            if not arguments.wait_for_completion:
                self._canceller.release()
                result = started.to_result(submission) | {"url": url}
                self._publisher.collect(result)
                return self._publisher.publish(result)
            return self._wait(started, is_new=started.execution is None)

    def complete(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """
        Continue with the event of the trigger.

        The event may belong to another execution: SQLite reuses the id of a deleted trigger, and Airflow then
        passes the old trigger's event to the task that has the id now.
        """
        if self._state.is_of_earlier_try:
            return self.start_and_wait()
        outcome = Outcome.from_event(event)
        own = pull_own_xcom(self._task, self._context, EXECUTION_KEY)
        if own is not None and own != outcome.result["execution_id"]:
            self._log(
                logging.WARNING,
                "Ignoring a trigger event of another execution: %s instead of %s",
                outcome.result["execution_id"],
                own,
            )
            return self._reconnect(own)
        with self._cancelling_when_given_up():
            return self._finish(outcome)

    def recover(self, failure: Mapping[str, Any]) -> dict[str, Any]:
        """
        Continue although the trigger failed without an event.

        A failure of the triggerer does not fail an execution that is active: its wait begins again, up to
        ``MAX_TRIGGER_FAILURES`` times in the triggerer, then in the worker.

        :param failure: What Airflow reports about it.
        """
        if self._state.is_of_earlier_try:
            return self.start_and_wait()
        failures = self._state.values.get("trigger_failures", 0) + 1
        self._state.set(trigger_failures=failures)
        may_defer = failures <= MAX_TRIGGER_FAILURES
        self._log(
            logging.WARNING,
            "Trigger failed without an event (attempt %s of %s): %s",
            failures,
            MAX_TRIGGER_FAILURES + 1,
            failure.get("error"),
        )
        if failure.get("traceback"):
            self._log(logging.WARNING, "%s", "".join(failure["traceback"]))
        own = pull_own_xcom(self._task, self._context, EXECUTION_KEY)
        return self._reconnect(own, may_defer=may_defer)

    def kill(self) -> None:
        """Cancel the execution, and interrupt the code that waits for it; safe in a signal handler."""
        self._canceller.kill()

    def _submit(self, submission: Submission, start_policy: StartPolicy | None) -> Started | Blocked:
        policy = self._submit_policy()
        is_retry = self._context["ti"].try_number > 1 or submission.known_id is not None
        try:
            located = self._lookup.locate(submission, policy, is_retry=is_retry)
            submission = replace(submission, notebook_id=located.notebook_id)
            flow = submit_once(
                submission, policy, start_policy=start_policy, is_retry=is_retry, located=located
            )
            with self._canceller.interruptible(ExecutionFinder(submission=submission, policy=policy)):
                started = self._client.run(flow)
                if isinstance(started, Started) and started.is_owned:
                    self._canceller.track(started.ref)
        except LosantError as error:
            if not isinstance(error, SubmissionUnknown):
                self._canceller.release()  # there is no execution
            raise submit_failure(error, submission, self._hook) from error
        return started

    def _submit_policy(self) -> SubmitPolicy:
        arguments, dag_run_start = self._arguments, self._context["dag_run"].start_date
        oldest_active = time.time() - min(arguments.timeout, MAX_ACTIVE)
        started = oldest_active if dag_run_start is None else dag_run_start.timestamp()
        return SubmitPolicy(
            retries=self._client.settings.max_retries,
            max_log_lag=arguments.max_log_lag,
            max_poll_outage=arguments.max_poll_outage,
            back_to=min(oldest_active, started) - DAY,
            first_try_after=started - CLOCK_ERROR,
            cancel_stale=arguments.cancel_on_kill,
            reconnect_after_clear=arguments.reconnect_after_clear,
            retry_on=arguments.retry_on,
        )

    @contextmanager
    def _cancelling_when_given_up(self) -> Iterator[None]:
        """Cancel the execution if the block fails, and no retry will reconnect to it."""
        try:
            yield
        except AirflowTaskTimeout as timeout:
            self._canceller.time_out()
            self._publisher.on_failure(timeout, is_last_try=self._is_last_try())
            raise
        except Exception as failure:
            if self._is_last_try() and (fate := self._canceller.give_up()):
                failure.add_note(f"After the last try, {fate}")
            self._publisher.on_failure(failure, is_last_try=self._is_last_try())
            raise

    def _is_last_try(self) -> bool:
        ti = self._context["ti"]
        return is_last_try(ti.try_number, ti.max_tries)

    def _announce(self, ref: ExecutionRef) -> str:
        """Publish the execution's id and its link as soon as they are known."""
        url = self._hook.notebook_url(ref)
        self._context["ti"].xcom_push(key=EXECUTION_KEY, value=ref.execution_id)
        LosantNotebookLink().push(self._context, url)
        self._log(logging.INFO, "Execution %s in Losant: %s", ref.execution_id, url)
        return url

    def _reconnect(self, execution_id: str, *, may_defer: bool = True) -> dict[str, Any]:
        ref = self._hook.execution_ref(self._lookup.notebook_id, execution_id)
        is_owned = not self._is_adopted()
        if is_owned:
            self._canceller.track(ref)
        started = Started(ref=ref, submitted_at=ref.created_at, is_owned=is_owned)
        with self._cancelling_when_given_up():
            return self._wait(started, may_defer=may_defer)

    def _wait(self, started: Started, *, is_new: bool = False, may_defer: bool = True) -> dict[str, Any]:
        """
        Wait in the triggerer if the task is deferrable, otherwise here.

        Before it defers, a task that resumes does not poll: after a failure of the triggerer or an outage,
        thousands of tasks may resume at once, and the triggerer polls once for all of them.
        """
        arguments, target = self._arguments, Target.of(started.ref)
        config = arguments.wait_config(started.submitted_at)
        not_before = started.submitted_at + config.poll_interval if is_new else 0.0
        has_ended = started.execution is not None and started.execution.status.is_final
        if arguments.deferrable and may_defer and not has_ended and config.deadline > time.time():
            self._defer(target, config, not_before, may_cancel=started.is_owned)
        may_cancel = arguments.cancel_on_timeout and started.is_owned
        flow = wait_for_execution(
            target,
            config,
            not_before=not_before,
            cancel_on_timeout=may_cancel,
            max_log_lag=arguments.max_log_lag,
        )
        with self._canceller.interruptible():  # not by _run(): one frame less for each request
            outcome = self._client.run(flow)
        return self._finish(outcome)

    def _defer_until_unblocked(self, blocked: Blocked, waiting_since: float) -> NoReturn:
        """Wait in the triggerer for the end of another execution, which the trigger never cancels."""
        self._log(logging.INFO, "The %s is still active; waiting for it to end", blocked.by.ref)
        self._state.set(waiting_since=waiting_since, replaces=list(blocked.replaces))
        config = self._arguments.wait_config(waiting_since)
        self._defer(Target.of(blocked.by.ref), config, may_cancel=False, method_name="execute_after_wait")

    def _defer(
        self,
        target: Target,
        config: WaitConfig,
        not_before: float = 0.0,
        *,
        may_cancel: bool,
        method_name: str = "execute_complete",
    ) -> NoReturn:
        from airflow_provider_losant.triggers.notebook import LosantNotebookExecutionTrigger

        self._state.prepare_deferral()
        self._canceller.release()
        trigger = LosantNotebookExecutionTrigger.for_task(
            target,
            config,
            not_before=not_before,
            losant_conn_id=self._arguments.losant_conn_id,
            cancel_on_kill=self._arguments.cancel_on_kill and may_cancel,
            cancel_on_timeout=self._arguments.cancel_on_timeout and may_cancel,
        )
        self._task.defer(trigger=trigger, method_name=method_name, timeout=trigger.deferral_timeout)

    def _finish(self, outcome: Outcome) -> dict[str, Any]:
        check_query_time(outcome, self._arguments.relative_to, self._log)
        ref = self._hook.execution_ref(self._lookup.notebook_id, outcome.result["execution_id"])
        fate = self._give_up(outcome, ref)
        self._canceller.release()
        _, limit = self._arguments.deadline(ref.created_at)
        url = self._hook.notebook_url(ref)
        with self._canceller.interruptible():
            result = self._publisher.result_or_raise(
                outcome, url=url, limit=limit, fate=fate, retry_on=self._arguments.retry_on
            )
        return self._publisher.publish(self._publisher.deliver(result, ref, self._run))

    def _give_up(self, outcome: Outcome, ref: ExecutionRef) -> str:
        """After the last try, cancel an execution whose wait was given up; return what came of it."""
        is_to_stay = outcome.ending == "deadline" and not self._arguments.cancel_on_timeout
        if not outcome.may_be_active or is_to_stay or not self._is_last_try():
            return ""
        if self._is_adopted():
            return "the execution was not cancelled, because the task has not submitted it"
        self._canceller.release()
        self._canceller.track(ref)
        return self._canceller.give_up()

    def _run(self, flow: FileFlow[T]) -> T:
        with self._canceller.interruptible():
            return self._client.run(flow)

    def _is_adopted(self) -> bool:
        return bool(self._state.values.get("is_adopted"))
