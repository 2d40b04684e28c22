# SPDX-License-Identifier: Apache-2.0
"""
One ``execute()`` call of the execute operator at run time: submit, wait or defer, resume, finish.

It is not part of the operator's module, so that parsing a DAG file does not load all of this.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_losant._compat import AirflowSkipException
from airflow_provider_losant.api.errors import LosantError
from airflow_provider_losant.api.flows.outcome import Outcome
from airflow_provider_losant.api.flows.outputs import OutputSelection
from airflow_provider_losant.api.flows.polling import wait_for_execution
from airflow_provider_losant.api.flows.reconnect import ExecutionFinder
from airflow_provider_losant.api.flows.start_policy import StartDenied, StartSkipped
from airflow_provider_losant.api.flows.submission import Started, SubmitPolicy
from airflow_provider_losant.api.flows.submit import submit_once
from airflow_provider_losant.api.flows.wait import Target
from airflow_provider_losant.api.timestamps import DAY, format_timestamp
from airflow_provider_losant.exceptions import (
    LosantConfigError,
    NotebookExecutionError,
    NotebookNotStarted,
    permanent_errors_as_config_error,
)
from airflow_provider_losant.execution.arguments import ExecuteArguments
from airflow_provider_losant.execution.canceller import Canceller
from airflow_provider_losant.execution.publisher import ResultPublisher
from airflow_provider_losant.execution.submission import build_submission, save_execution_id
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.links.notebook import LosantNotebookLink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_losant._compat import BaseOperator, Context
    from airflow_provider_losant.api.flows.start_policy import Blocked, StartPolicy
    from airflow_provider_losant.api.flows.submission import Submission
    from airflow_provider_losant.api.flows.wait import WaitConfig
    from airflow_provider_losant.api.model import ExecutionRef
    from airflow_provider_losant.openlineage.collect import Report

MAX_TRIGGER_FAILURES = 3
EXECUTION_KEY = "execution_id"
FAILURES_KEY = "trigger_failures"
ADOPTED_KEY = "is_adopted"
WAITING_SINCE_KEY = "waiting_since"


def pull_own_xcom(task: BaseOperator, context: Context, key: str) -> Any:
    """Return what this try pushed before it was deferred; Airflow clears it when a new try starts."""
    ti = context["ti"]
    return ti.xcom_pull(task_ids=task.task_id, key=key, map_indexes=ti.map_index)


class ExecuteSession:
    """
    The work of one task in one process.

    The connection is resolved up front, because a kill must not query Airflow.

    :param task: The execute operator, whose arguments are checked here. (Its type would be an import cycle.)
    :raises LosantConfigError: an argument or the connection is missing or invalid.
    """

    def __init__(self, task: Any, context: Context) -> None:
        self._task: BaseOperator = task
        self._context = context
        self._log = task.log.log
        self._hook = LosantHook(task.losant_conn_id, task.application_id)
        self._client = self._hook.client
        self._arguments = ExecuteArguments.parse(task, self._hook, context["ti"])
        self._canceller = Canceller(
            self._client,
            self._log,
            may_cancel=self._arguments.cancel_on_kill,
            max_log_lag=self._arguments.max_log_lag,
        )
        self._publisher = ResultPublisher(task, context, self._hook, is_child=lambda: not self._is_adopted())

    @property
    def report(self) -> Report | None:
        """What OpenLineage gets after the end of the task."""
        return self._publisher.report

    def start_and_wait(self, *, is_resumed: bool = False) -> dict[str, Any]:
        """
        Submit the execution, or reconnect to that of an earlier try, and wait for it.

        :param is_resumed: The task has already waited for another execution to end.
        """
        arguments, context = self._arguments, self._context
        waiting_since = self._pull(WAITING_SINCE_KEY) if is_resumed else time.time()
        arguments.output_folder()  # refuses an invalid folder before anything is submitted
        policy = arguments.start_policy(waiting_since)
        submission = build_submission(arguments, context, self._log)
        started = self._submit(submission, policy)
        if not isinstance(started, Started):
            self._defer_until_unblocked(started.by.ref, waiting_since)
        if started.is_owned:
            save_execution_id(arguments, context, started.ref, self._log)
        else:
            context["ti"].xcom_push(key=ADOPTED_KEY, value=True)
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
        outcome = Outcome.from_event(event)
        own = self._pull(EXECUTION_KEY)
        if own is not None and own != outcome.result["execution_id"]:
            self._log(
                logging.WARNING,
                "Ignoring a trigger event of another execution: %s instead of %s",
                outcome.result["execution_id"],
                own,
            )
            return self._reconnect(own)
        return self._finish(outcome)

    def recover(self, failure: Mapping[str, Any]) -> dict[str, Any]:
        """
        Continue although the trigger failed without an event.

        A failure of the triggerer does not fail an execution that is active: its wait begins again, up to
        ``MAX_TRIGGER_FAILURES`` times in the triggerer, then in the worker.

        :param failure: What Airflow reports about it.
        """
        failures = (self._pull(FAILURES_KEY) or 0) + 1
        self._context["ti"].xcom_push(key=FAILURES_KEY, value=failures)
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
        return self._reconnect(self._pull(EXECUTION_KEY), may_defer=may_defer)

    def kill(self) -> None:
        """Cancel the execution, and interrupt the code that waits for it; safe in a signal handler."""
        self._canceller.kill()

    def _submit(self, submission: Submission, start_policy: StartPolicy | None) -> Started | Blocked:
        policy = SubmitPolicy(
            retries=self._client.settings.max_retries,
            max_log_lag=self._arguments.max_log_lag,
            max_poll_outage=self._arguments.max_poll_outage,
            lookback=self._arguments.timeout + DAY,
            cancel_stale=self._arguments.cancel_on_kill,
        )
        is_retry = self._context["ti"].try_number > 1
        flow = submit_once(submission, policy, start_policy=start_policy, is_retry=is_retry)
        try:
            with self._canceller.interruptible(ExecutionFinder(submission=submission, policy=policy)):
                started = self._client.run(flow)
                if isinstance(started, Started) and started.is_owned:
                    self._canceller.track(started.ref)
        except StartSkipped as reason:
            raise AirflowSkipException(str(reason)) from reason
        except StartDenied as reason:
            raise NotebookNotStarted(str(reason)) from reason
        except LosantError as error:
            # If Losant may have processed the request, neither the arguments nor the token are wrong.
            may_retry = error.is_transient or error.may_have_taken_effect
            raised = NotebookExecutionError if may_retry else LosantConfigError
            where = f"{submission}, connection {self._arguments.losant_conn_id!r}"
            raise raised(f"Submitting an execution failed: {error} ({where})") from error
        return started

    def _announce(self, ref: ExecutionRef) -> str:
        """Publish the execution's id and its link as soon as they are known."""
        url = self._hook.notebook_url(ref)
        self._context["ti"].xcom_push(key=EXECUTION_KEY, value=ref.execution_id)
        LosantNotebookLink().push(self._context, url)
        self._log(logging.INFO, "Execution %s in Losant: %s", ref.execution_id, url)
        return url

    def _reconnect(self, execution_id: str, *, may_defer: bool = True) -> dict[str, Any]:
        ref = self._hook.execution_ref(self._arguments.notebook_id, execution_id)
        is_owned = not self._is_adopted()
        if is_owned:
            self._canceller.track(ref)
        started = Started(ref=ref, submitted_at=ref.created_at, is_owned=is_owned)
        return self._wait(started, may_defer=may_defer)

    def _wait(self, started: Started, *, is_new: bool = False, may_defer: bool = True) -> dict[str, Any]:
        """
        Wait in the triggerer if the task is deferrable, otherwise here.

        An execution that is not new may have ended already: it is polled here once before the task defers.
        """
        arguments, target = self._arguments, Target.of(started.ref)
        config = arguments.wait_config(started.submitted_at)
        not_before = started.submitted_at + config.poll_interval if is_new else 0.0
        if arguments.deferrable and may_defer and config.deadline > time.time():
            if not is_new:
                with self._canceller.interruptible():
                    outcome = self._client.run(wait_for_execution(target, replace(config, deadline=0.0)))
                if outcome.ending == "ended":
                    return self._finish(outcome)
            self._defer(target, config, not_before, may_cancel=started.is_owned)
        may_cancel = arguments.cancel_on_timeout and started.is_owned
        flow = wait_for_execution(
            target,
            config,
            not_before=not_before,
            cancel_on_timeout=may_cancel,
            max_log_lag=arguments.max_log_lag,
        )
        with self._canceller.interruptible():
            outcome = self._client.run(flow)
        return self._finish(outcome)

    def _defer_until_unblocked(self, ref: ExecutionRef, waiting_since: float) -> NoReturn:
        """Wait in the triggerer for the end of another task's execution, which is never cancelled here."""
        self._log(logging.INFO, "The %s is still active; waiting for it to end", ref)
        # An XCom rather than an argument of the method, because dag.test() does not pass those on.
        self._context["ti"].xcom_push(key=WAITING_SINCE_KEY, value=waiting_since)
        config = self._arguments.wait_config(waiting_since)
        self._defer(Target.of(ref), config, may_cancel=False, method_name="execute_after_wait")

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
        self._canceller.release()
        self._check_query_time(outcome)
        ref = self._hook.execution_ref(self._arguments.notebook_id, outcome.result["execution_id"])
        _, limit = self._arguments.deadline(ref.created_at)
        result = self._publisher.result_or_raise(outcome, url=self._hook.notebook_url(ref), limit=limit)
        if (saved := self._save_outputs(ref)) is not None:
            result["saved_outputs"] = saved
        return self._publisher.publish(result)

    def _save_outputs(self, ref: ExecutionRef) -> dict[str, str] | None:
        """Copy the outputs; if that fails, a retry finds the execution completed and only copies again."""
        folder = self._arguments.output_folder()
        if folder is None:
            return None
        flow = folder.save(ref, OutputSelection(), self._client.settings.max_retries)
        with permanent_errors_as_config_error(), self._canceller.interruptible():
            saved = self._client.run(flow)
        return saved  # noqa: RET504 - a kill raises when the block ends

    def _check_query_time(self, outcome: Outcome) -> None:
        """Warn if Losant used another query time: it treats one that it cannot parse as the current time."""
        used, requested = outcome.result.get("relative_to"), self._arguments.relative_to
        if requested is None or used is None or format_timestamp(requested) == used:
            return
        self._log(
            logging.WARNING,
            "relative_to: %s was requested, but the execution used %s",
            format_timestamp(requested),
            used,
        )

    def _is_adopted(self) -> bool:
        return bool(self._pull(ADOPTED_KEY))

    def _pull(self, key: str) -> Any:
        return pull_own_xcom(self._task, self._context, key)
