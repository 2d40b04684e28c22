# SPDX-License-Identifier: Apache-2.0
"""
What happens while the operator's task runs: from its order to its result.

It is apart from the operator because a DAG file that only names the operator is not to load all of this,
whenever it is parsed.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_losant._compat import AirflowSkipException
from airflow_provider_losant.api.errors import LosantError
from airflow_provider_losant.api.flows import polling
from airflow_provider_losant.api.flows.outcome import Outcome
from airflow_provider_losant.api.flows.outputs import OutputSelection
from airflow_provider_losant.api.flows.start_policy import StartDenied, StartSkipped
from airflow_provider_losant.api.flows.submission import Started, Submission, SubmitPolicy
from airflow_provider_losant.api.flows.wait import Target, WaitConfig
from airflow_provider_losant.api.timestamps import format_timestamp, parse_seconds, parse_timestamp
from airflow_provider_losant.assets.notebook import fill_outlet_events
from airflow_provider_losant.exceptions import (
    LosantConfigError,
    NotebookExecutionError,
    NotebookNotStarted,
    permanent_errors_as_config_error,
)
from airflow_provider_losant.execution.arguments import (
    build_start_policy,
    build_submission,
    save_execution_id,
)
from airflow_provider_losant.execution.canceller import Canceller
from airflow_provider_losant.execution.result import result_or_raise
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.hooks.output_folder import OutputFolder
from airflow_provider_losant.links.notebook import LosantNotebookLink
from airflow_provider_losant.openlineage.collect import collect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.api.flows.start_policy import Blocked, StartPolicy
    from airflow_provider_losant.api.model import ExecutionRef
    from airflow_provider_losant.openlineage.collect import Report
    from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator

DAY = 24 * 3600.0
MAX_TRIGGER_FAILURES = 3
EXECUTION_KEY = "execution_id"
FAILURES_KEY = "trigger_failures"
ADOPTED_KEY = "is_adopted"
WAITING_SINCE_KEY = "waiting_since"


def pull_own_xcom(task: LosantNotebookExecuteOperator, context: Context, key: str) -> Any:
    """Return what this try pushed before it was deferred; Airflow clears it when a new try begins."""
    ti = context["ti"]
    return ti.xcom_pull(task_ids=task.task_id, key=key, map_indexes=ti.map_index)


class ExecuteSession:
    """
    A task of the operator in one process: the connection is resolved, for a kill is too late to ask for it.

    :param task: Whose arguments say what is wanted.
    :ivar report: What OpenLineage can be told when the task has ended.
    :raises LosantConfigError: the connection lacks something or makes no sense.
    """

    report: Report | None = None

    def __init__(self, task: LosantNotebookExecuteOperator, context: Context) -> None:
        self._task = task
        self._context = context
        self._hook = LosantHook(task.losant_conn_id, task.application_id)
        self._canceller = Canceller(may_cancel=task.cancel_on_kill)
        self._canceller.attach(self._hook.client, task.log.log)

    def start_and_wait(self, *, is_resumed: bool) -> dict[str, Any]:
        """
        Start the run, or find the one that is there, and wait for it.

        :param is_resumed: Whether the task has waited already for another run to end.
        """
        task, context = self._task, self._context
        began = pull_own_xcom(task, context, WAITING_SINCE_KEY) if is_resumed else time.time()
        submission = build_submission(task, context, self._hook)
        start_policy = build_start_policy(task, began, give_up_at=self._deadline(began)[0])
        started = self._start(submission, start_policy, is_retry=context["ti"].try_number > 1)
        if not isinstance(started, Started):
            self._defer_until_free(started.execution.ref, began)
        if started.is_owned:
            save_execution_id(task, context, started.ref)
        else:
            context["ti"].xcom_push(key=ADOPTED_KEY, value=True)
        url = self._announce(started.ref)
        if not task.wait_for_completion:
            self._canceller.release()
            result = started.to_result(submission) | {"url": url}
            self._note(result)
            return self._publish(result)
        return self._wait(started, is_new=started.execution is None)

    def complete(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """
        Go on with what the trigger told.

        The event may be another run's: SQLite gives the id of a trigger that is gone to the next one, and
        Airflow then hands the old one's event to the task that has the id now.
        """
        outcome = Outcome.from_event(event)
        mine = pull_own_xcom(self._task, self._context, EXECUTION_KEY)
        if mine is not None and mine != outcome.result["execution_id"]:
            self._task.log.warning("The trigger told of %s, not of %s", outcome.result["execution_id"], mine)
            return self._look_again(mine)
        return self._finish(outcome)

    def recover(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """
        Go on although the trigger did not fire.

        A run that is well does not pay for a triggerer that is not: it is looked at, and its wait begun
        again, up to ``MAX_TRIGGER_FAILURES`` times; then the worker waits itself.

        :param told: What Airflow says about it.
        """
        failures = (pull_own_xcom(self._task, self._context, FAILURES_KEY) or 0) + 1
        self._context["ti"].xcom_push(key=FAILURES_KEY, value=failures)
        self._task.log.warning("The trigger came to no end (%s): %s", failures, told.get("error"))
        if told.get("traceback"):
            self._task.log.warning("%s", "".join(told["traceback"]))
        mine = pull_own_xcom(self._task, self._context, EXECUTION_KEY)
        return self._look_again(mine, may_defer=failures <= MAX_TRIGGER_FAILURES)

    def kill(self) -> None:
        """Cancel the run, and keep the interrupted code from going on; fit for a signal handler."""
        self._canceller.kill()

    def _look_again(self, execution_id: str, *, may_defer: bool = True) -> dict[str, Any]:
        ref = self._hook.execution_ref(self._task.notebook_id, execution_id)
        is_owned = not pull_own_xcom(self._task, self._context, ADOPTED_KEY)
        if is_owned:
            self._canceller.track(ref)
        started = Started(ref=ref, submitted_at=ref.created_at, is_owned=is_owned)
        return self._wait(started, may_defer=may_defer)

    def _start(
        self, submission: Submission, start_policy: StartPolicy | None, *, is_retry: bool
    ) -> Started | Blocked:
        policy = SubmitPolicy(
            retries=self._hook.settings.max_retries,
            max_log_lag=parse_seconds(self._task.max_log_lag, field="max_log_lag"),
            max_poll_outage=parse_seconds(self._task.max_poll_outage, field="max_poll_outage"),
            lookback=parse_seconds(self._task.timeout, field="timeout") + DAY,
            cancel_stale=self._task.cancel_on_kill,
        )
        try:
            return self._canceller.start(
                self._hook.client, submission, policy, start_policy=start_policy, is_retry=is_retry
            )
        except StartSkipped as reason:
            raise AirflowSkipException(str(reason)) from reason
        except StartDenied as reason:
            raise NotebookNotStarted(str(reason)) from reason
        except LosantError as error:
            where = f"No run of {submission} was started through connection {self._task.losant_conn_id!r}"
            raised = NotebookExecutionError if error.is_transient else LosantConfigError
            raise raised(f"{where}: {error}") from error

    def _announce(self, ref: ExecutionRef) -> str:
        """Show the run to people the moment it has an id."""
        url = self._hook.notebook_url(ref)
        self._context["ti"].xcom_push(key=EXECUTION_KEY, value=ref.execution_id)
        LosantNotebookLink().push(self._context, url)
        self._task.log.info("Execution %s in Losant: %s", ref.execution_id, url)
        return url

    def _wait(self, started: Started, *, is_new: bool = False, may_defer: bool = True) -> dict[str, Any]:
        """
        Wait where the DAG's author wants it.

        What is not new may have ended already: it is looked at here once before its wait is handed over.
        """
        target, config = Target.of(started.ref), self._patience(started.submitted_at)
        not_before = started.submitted_at + config.poll_interval if is_new else 0.0
        if self._task.deferrable and may_defer and config.deadline > time.time():
            if not is_new:
                glance = self._canceller.run(
                    self._hook.client, polling.wait_for_execution(target, replace(config, deadline=0.0))
                )
                if glance.ending == "ended":
                    return self._finish(glance)
            self._defer(target, config, not_before, may_cancel=started.is_owned)
        may_cancel = self._task.cancel_on_timeout and started.is_owned
        whole = polling.wait_for_execution(
            target, config, not_before=not_before, cancel_on_timeout=may_cancel
        )
        return self._finish(self._canceller.run(self._hook.client, whole))

    def _patience(self, since: float) -> WaitConfig:
        return WaitConfig(
            poll_interval=parse_seconds(self._task.poll_interval, field="poll_interval"),
            deadline=self._deadline(since)[0],
            max_poll_outage=parse_seconds(self._task.max_poll_outage, field="max_poll_outage"),
        )

    def _deadline(self, submitted_at: float) -> tuple[float, str]:
        """
        Return when the wait is over, and which argument says so.

        Airflow does not watch ``execution_timeout`` while a task is deferred, so the trigger has to.
        """
        ends = [
            (
                submitted_at + parse_seconds(self._task.timeout, field="timeout"),
                f"timeout ({self._task.timeout})",
            )
        ]
        began = getattr(self._context["ti"], "start_date", None)
        if self._task.deferrable and self._task.execution_timeout and began:
            end = began.timestamp() + self._task.execution_timeout.total_seconds()
            ends.append((end, f"execution_timeout ({self._task.execution_timeout})"))
        return min(ends)

    def _defer_until_free(self, ref: ExecutionRef, began: float) -> NoReturn:
        """Wait in the triggerer for the end of somebody else's run, which nothing here may stop."""
        self._task.log.info("The %s goes on; waiting for its end", ref)
        # An XCom and no argument of the method, for dag.test() passes those not on.
        self._context["ti"].xcom_push(key=WAITING_SINCE_KEY, value=began)
        self._defer(
            Target.of(ref), self._patience(began), 0.0, may_cancel=False, method_name="execute_after_wait"
        )

    def _defer(
        self,
        target: Target,
        config: WaitConfig,
        not_before: float,
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
            losant_conn_id=self._task.losant_conn_id,
            cancel_on_kill=self._task.cancel_on_kill and may_cancel,
            cancel_on_timeout=self._task.cancel_on_timeout and may_cancel,
        )
        self._task.defer(trigger=trigger, method_name=method_name, timeout=trigger.deferral_timeout)

    def _finish(self, outcome: Outcome) -> dict[str, Any]:
        self._canceller.release()
        self._check_query_time(outcome)
        self._note(outcome.result, outcome)
        ref = self._hook.execution_ref(self._task.notebook_id, outcome.result["execution_id"])
        _, limit = self._deadline(ref.created_at)
        result = result_or_raise(
            outcome, url=self._hook.notebook_url(ref), limit=limit, log=self._task.log.log
        )
        if self._task.save_outputs_to is not None:
            result["saved_outputs"] = self._save_outputs(ref)
        return self._publish(result)

    def _publish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Let those who depend on the notebook know."""
        if self.report is not None:
            self.report = self.report.with_result(result)
        fill_outlet_events(self._task, self._context, result, self._hook.settings.base_url)
        return result

    def _note(self, result: Mapping[str, Any], outcome: Outcome | None = None) -> None:
        self.report = collect(
            self._hook,
            result,
            outcome,
            is_child=lambda: not pull_own_xcom(self._task, self._context, ADOPTED_KEY),
        )

    def _save_outputs(self, ref: ExecutionRef) -> dict[str, str]:
        """Copy the outputs; should that fail, the retry finds the run completed and only copies again."""
        with permanent_errors_as_config_error():
            folder = OutputFolder.at(self._task.save_outputs_to or "", field="save_outputs_to")
            return self._canceller.run(
                self._hook.client, folder.land(ref, OutputSelection(), self._hook.settings.max_retries)
            )

    def _check_query_time(self, outcome: Outcome) -> None:
        """Losant reads a time it does not understand as now, and says so nowhere but in its log."""
        used = outcome.result.get("relative_to")
        if self._task.relative_to is None or used is None:
            return
        asked = format_timestamp(parse_timestamp(self._task.relative_to, field="relative_to"))
        if asked != used:
            self._task.log.warning("relative_to: asked for %s, but the run used %s", asked, used)
