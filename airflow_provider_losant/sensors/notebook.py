# SPDX-License-Identifier: Apache-2.0
"""Wait for an execution that another task, user or system has started."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow_provider_losant._compat import (
    TRIGGER_FAILED,
    AirflowSensorTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)
from airflow_provider_losant.api.defaults import LONGEST, MAX_LOG_LAG
from airflow_provider_losant.links import optional_links
from airflow_provider_losant.links.notebook import LosantNotebookLink
from airflow_provider_losant.templates import TextTemplates

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.api.flows.outcome import Outcome
    from airflow_provider_losant.api.flows.wait import Target, WaitConfig
    from airflow_provider_losant.execution.deadline import Deadline
    from airflow_provider_losant.execution.outputs import OutputPlan
    from airflow_provider_losant.execution.publisher import ResultPublisher
    from airflow_provider_losant.hooks.losant import LosantHook


class LosantNotebookExecutionSensor(TextTemplates, BaseSensorOperator):
    """
    Wait until an execution of a Losant notebook has ended. The sensor never starts or cancels one.

    In all modes (poke, reschedule, deferrable) it returns the same result (XCom) as
    :class:`~airflow_provider_losant.operators.notebook.LosantNotebookExecuteOperator`. Failed polls are
    tolerated until ``timeout``. An execution that did not complete fails the sensor without a retry, because
    polling again cannot change it, or skips it with ``soft_fail``.

    ``poke_interval``, ``timeout`` (seconds, or timedeltas; at most ten years), ``mode`` and ``soft_fail`` are
    those of every sensor in Airflow, including the defaults: one poll a minute, for a week. ``timeout`` and
    ``execution_timeout`` count from the start of a try, in a worker and deferred.

    :param notebook_id: ID of the notebook; give either this or ``notebook_name``. (templated)
    :param notebook_name: The notebook's exact name, by which it is found when the sensor starts; in the mode
        ``reschedule`` at each poke. (templated)
    :param execution_id: ID of the execution to wait for. One that does not exist fails the sensor without a
        retry, once Losant's complete execution log shows it. (templated)
    :param since: Instead of an ``execution_id``: of the executions queued at this time or later, wait for the
        first to end; datetime, ISO-8601 string or epoch *milliseconds*, in UTC if no time zone is given.
        (templated)
    :param context_contains: With ``since``: only executions whose template context contains these keys with
        these values; a mapping, or JSON text. Values are compared as JSON: of a nested object the keys that
        are given, of everything else, lists included, the whole. (templated)
    :param statuses: With ``since``: only executions that end with one of these statuses; some of
        ``completed``, ``errored``, ``timeout``, ``canceled``. None: all of them.
    :param max_log_lag: How long an execution may be missing in Losant's execution log after it was
        submitted: seconds or a timedelta.
    :param application_id: ID of the application; by default the connection's. (templated)
    :param deferrable: Wait in the triggerer instead of in a worker.
    :param start_from_trigger: With ``deferrable``: start in the triggerer, too, so that no worker is needed
        before the execution has ended. Where Airflow does not support it (before 3.3, mapped tasks), the
        sensor starts in a worker.
    :param values_from: Name of a JSON output of the notebook, whose content becomes ``values`` of the result
        and the XCom ``values``, as with the operator. (templated)
    :param log_output: Write the end of the printed output (``result.log``, at most 64 KB) to the task log,
        whether the execution completed or not.
    :param losant_conn_id: The Airflow connection. (templated)
    :raises LosantConfigError: an argument, the connection or the token is invalid, or the execution has
        completed without the JSON that ``values_from`` names.
    :raises AirflowFailException: the execution did not complete, or does not exist; it is also a
        :class:`.NotebookExecutionError`.
    :raises NotebookOutputError: the values could not be read for now.
    :raises NotebookWaitTimedOut: ``execution_timeout`` passed while the sensor was deferred.
    :raises AirflowSensorTimeout: it had not ended within ``timeout``; it is also a
        :class:`.NotebookWaitTimedOut`.
    """

    template_fields: Sequence[str] = (
        "notebook_id",
        "notebook_name",
        "execution_id",
        "since",
        "context_contains",
        "application_id",
        "values_from",
        "losant_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"context_contains": "json"}
    operator_extra_links = (LosantNotebookLink(), *optional_links())
    ui_color = "#e3f4e1"

    def __init__(
        self,
        *,
        notebook_id: str | None = None,
        notebook_name: str | None = None,
        execution_id: str | None = None,
        since: datetime | str | float | None = None,
        context_contains: Mapping[str, Any] | str | None = None,
        statuses: Sequence[str] | None = None,
        application_id: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool = False,
        max_log_lag: float | timedelta = timedelta(seconds=MAX_LOG_LAG),
        values_from: str | None = None,
        log_output: bool = False,
        losant_conn_id: str = "losant_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.notebook_id = notebook_id
        self.notebook_name = notebook_name
        self.execution_id = execution_id
        self.since = since
        self.context_contains = context_contains
        self.statuses = statuses
        self.application_id = application_id
        self.deferrable = deferrable
        self.start_from_trigger = start_from_trigger
        self.max_log_lag = max_log_lag
        self.values_from = values_from
        self.log_output = log_output
        self.losant_conn_id = losant_conn_id
        self._found_id: str | None = None
        self._publisher: ResultPublisher | None = None
        self._check_arguments()
        if deferrable and start_from_trigger:
            self.start_trigger_args = self._start_trigger_args()
        self.start_from_trigger = self.start_trigger_args is not None

    def execute(self, context: Context) -> Any:
        """Wait in the triggerer if the sensor is deferrable, otherwise poll here."""
        from airflow_provider_losant.sensors.skipping import skipping

        with skipping(self):
            if not self.deferrable:
                return super().execute(context)
            self._find_notebook_in_time(context)
            result = self.poke(context)
            if isinstance(result, PokeReturnValue):
                return result.xcom_value
            return self._defer(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Continue after the deferral, and skip the sensor only after what would skip it without one."""
        from airflow_provider_losant.sensors.skipping import ended_by, skipping

        with skipping(self):
            if next_method == TRIGGER_FAILED:
                with ended_by(self._deadline(context)[1]):
                    return super().resume_execution(next_method, next_kwargs, context)
            # Not the method of BaseSensorOperator, which skips also after what another try may not meet.
            return super(BaseSensorOperator, self).resume_execution(next_method, next_kwargs, context)

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Poll once."""
        from airflow_provider_losant.api.errors import LosantError
        from airflow_provider_losant.api.flows.polling import wait_for_execution

        self._outputs()  # an invalid argument is reported before the wait
        hook = self._hook()
        try:
            self._find_notebook(context, hook)
        except LosantError as error:
            self.log.warning("%s; looking up the notebook again with the next poke", error)
            return False
        target = self._target(hook)
        LosantNotebookLink().push(context, hook.notebook_url(target))
        outcome = hook.client.run(wait_for_execution(target, self._wait_config(deadline=0.0)))
        if outcome.ending == "deadline":
            return False
        return PokeReturnValue(is_done=True, xcom_value=self._finish(context, hook, outcome))

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None, **unknown: Any
    ) -> dict[str, Any]:
        """Continue with the event of the trigger, unless it belongs to another execution."""
        from airflow_provider_losant.api.flows.outcome import Outcome
        from airflow_provider_losant.execution.try_state import pull_own_xcom
        from airflow_provider_losant.hooks.target import NOTEBOOK_KEY

        del unknown  # arguments that a newer version has stored with the deferral
        if self.notebook_name:
            self._found_id = pull_own_xcom(self, context, NOTEBOOK_KEY)
        if event is None:
            return self.execute(context)  # type: ignore[no-any-return]  # as Airflow has it
        outcome, hook = Outcome.from_event(event), self._hook()
        self._find_notebook(context, hook)
        target, result = self._target(hook), outcome.result
        is_own_notebook = target.notebook_id == result["notebook_id"]
        if not is_own_notebook or target.execution_id not in (None, result["execution_id"]):
            return self.execute(context)  # type: ignore[no-any-return]  # as Airflow has it
        return self._finish(context, hook, outcome)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return the lineage of the execution to OpenLineage; Airflow calls this after a failure, too."""
        from airflow_provider_losant.openlineage.emit import lineage_of_run

        report = None if self._publisher is None else self._publisher.report
        return lineage_of_run(report, self, task_instance)

    def _hook(self) -> LosantHook:
        from airflow_provider_losant.hooks.losant import LosantHook

        return LosantHook(self.losant_conn_id, self.application_id)

    @property
    def _timeout(self) -> float:
        return min(self.timeout, LONGEST)

    def _deadline(self, context: Context) -> Deadline:
        from airflow_provider_losant.execution.deadline import deadline_of_try, first_deadline

        ti = context["ti"]
        started = getattr(ti, "start_date", None)
        since = started.timestamp() if started else time.time()
        return first_deadline(since, self._timeout, deadline_of_try(self, ti))

    @property
    def _poll_interval(self) -> float:
        return min(self.poke_interval, LONGEST) or 1.0

    def _target(self, hook: LosantHook) -> Target:
        from airflow_provider_losant.hooks.target import resolve_target

        return resolve_target(
            hook,
            notebook_id=self._found_id,
            execution_id=self.execution_id,
            since=self.since,
            statuses=self.statuses,
            context_contains=self.context_contains,
        )

    def _outputs(self) -> OutputPlan:
        from airflow_provider_losant.execution.outputs import OutputPlan

        return OutputPlan.parse(values_from=self.values_from, log_output=self.log_output)

    def _check_arguments(self) -> None:
        """Refuse what is wrong whatever templates render to, while the DAG is parsed."""
        from airflow_provider_losant.hooks.arguments import check_literals, is_certainly_given

        check_literals(self, LosantNotebookExecutionSensor)
        choice = {name: getattr(self, name) for name in ("since", "statuses", "context_contains")}
        choice = {name: value for name, value in choice.items() if is_certainly_given(value)}
        if choice and is_certainly_given(self.execution_id):
            from airflow_provider_losant.hooks.target import refuse_choice_beside_id

            refuse_choice_beside_id(self.execution_id, choice)

    def _find_notebook(self, context: Context, hook: LosantHook, *, max_outage: float = 0.0) -> None:
        from airflow_provider_losant.hooks.target import resolve_notebook

        if self._found_id is None:
            self._found_id = resolve_notebook(
                hook,
                context,
                notebook_id=self.notebook_id,
                notebook_name=self.notebook_name,
                max_outage=max_outage,
            )

    def _find_notebook_in_time(self, context: Context) -> None:
        """Find the notebook; if Losant cannot be asked until ``timeout``, end as after failed pokes."""
        from airflow_provider_losant.api.errors import LosantError

        try:
            self._find_notebook(context, self._hook(), max_outage=self._timeout)
        except LosantError as error:
            raise AirflowSensorTimeout(f"{error}, for {self._timeout:g} s (timeout)") from error

    def _start_trigger_args(self) -> Any:
        from airflow_provider_losant.api.timestamps import parse_seconds
        from airflow_provider_losant.triggers.start_args import start_trigger_args

        allowed = self.execution_timeout
        # Not those of a subclass, which sets them later. A worker reads the values, so that they cross the
        # triggerer and the database only once, as XCom.
        own_fields = LosantNotebookExecutionSensor.template_fields
        fields = {name: getattr(self, name) for name in own_fields if name != "values_from"}
        if isinstance(self.since, date):
            fields["since"] = self.since.isoformat()
        return start_trigger_args(
            poll_interval=self._poll_interval,
            timeout=min(self._timeout, allowed.total_seconds()) if allowed else self._timeout,
            statuses=self.statuses,
            max_log_lag=parse_seconds(self.max_log_lag, field="max_log_lag"),
            **fields,
        )

    def _wait_config(self, deadline: float) -> WaitConfig:
        from airflow_provider_losant.api.flows.wait import WaitConfig
        from airflow_provider_losant.api.timestamps import parse_seconds
        from airflow_provider_losant.exceptions import permanent_errors_as_config_error

        with permanent_errors_as_config_error():
            max_log_lag = parse_seconds(self.max_log_lag, field="max_log_lag")
        return WaitConfig(
            poll_interval=self._poll_interval,
            deadline=deadline,
            max_poll_outage=self._timeout,
            not_found_after=max_log_lag,
        )

    def _defer(self, context: Context) -> NoReturn:
        from airflow_provider_losant.triggers.notebook import LosantNotebookExecutionTrigger

        config = self._wait_config(self._deadline(context)[0])
        trigger = LosantNotebookExecutionTrigger.for_task(
            self._target(self._hook()),
            config,
            not_before=time.time() + config.poll_interval,
            losant_conn_id=self.losant_conn_id,
        )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=trigger.deferral_timeout)

    def _finish(self, context: Context, hook: LosantHook, outcome: Outcome) -> dict[str, Any]:
        from airflow_provider_losant.exceptions import (
            NotebookExecutionError,
            NotebookWaitTimedOut,
            not_retried,
        )
        from airflow_provider_losant.execution.deadline import is_own_timeout
        from airflow_provider_losant.execution.publisher import ResultPublisher

        self._publisher = publisher = ResultPublisher(self, context, hook, self._outputs())
        url, limit = hook.notebook_url(self._target(hook)), self._deadline(context)[1]
        try:
            result = publisher.result_or_raise(
                outcome,
                url=url,
                limit=limit,
                fate="the execution was not cancelled",
            )
        except NotebookWaitTimedOut as error:
            if not is_own_timeout(limit):
                raise  # as when Airflow ends a task after execution_timeout, which it retries
            raise not_retried(error, AirflowSensorTimeout) from error.__cause__
        except NotebookExecutionError as error:
            raise not_retried(error) from error.__cause__
        ref = hook.execution_ref(result["notebook_id"], result["execution_id"])
        return publisher.publish(publisher.deliver(result, ref, hook.client.run))
