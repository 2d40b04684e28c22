# SPDX-License-Identifier: Apache-2.0
"""Wait for a run that somebody else started."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_losant._compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)
from airflow_provider_losant.links.notebook import LosantNotebookLink

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.api.flows.outcome import Outcome
    from airflow_provider_losant.api.flows.wait import Target, WaitConfig
    from airflow_provider_losant.hooks.losant import LosantHook
    from airflow_provider_losant.openlineage.collect import Report


class LosantNotebookExecutionSensor(BaseSensorOperator):
    """
    Wait until an execution of a Losant notebook has ended; never start one, never cancel one.

    Poking, rescheduling and deferred it behaves alike, and returns the same result (XCom) as
    :class:`~airflow_provider_losant.operators.notebook.LosantNotebookExecuteOperator`. A look that fails
    is forgiven until ``timeout``. An execution that did not end well fails the sensor without a retry,
    since looking again cannot change it, or skips it with ``soft_fail``.

    ``poke_interval``, ``timeout`` (seconds, or timedeltas), ``mode`` and ``soft_fail`` are those of every
    sensor in Airflow, defaults included: a look a minute, for a week.

    :param notebook_id: ID of the notebook. (templated)
    :param execution_id: ID of the execution to wait for. (templated)
    :param since: Without an ``execution_id``: of the executions queued at this instant or later, wait for
        the first to end, whether well or not; datetime, ISO-8601 text or epoch *milliseconds*, in UTC where
        it names no time zone. (templated)
    :param application_id: ID of the application; by default the connection's. (templated)
    :param deferrable: Wait in the triggerer instead of in a worker.
    :param start_from_trigger: With ``deferrable``: begin to wait there too, so that no worker is needed
        before the execution has ended; where Airflow cannot (before 3.3, mapped), a worker begins as ever.
    :param losant_conn_id: The Airflow connection. (templated)
    :raises LosantConfigError: an argument, the connection or the token is not right.
    :raises AirflowFailException: the execution did not end well.
    :raises AirflowSensorTimeout: it had not ended within ``timeout``.
    """

    template_fields: Sequence[str] = (
        "notebook_id",
        "execution_id",
        "since",
        "application_id",
        "losant_conn_id",
    )
    operator_extra_links = (LosantNotebookLink(),)
    ui_color = "#e3f4e1"

    def __init__(
        self,
        *,
        notebook_id: str,
        execution_id: str | None = None,
        since: datetime | str | float | None = None,
        application_id: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool = False,
        losant_conn_id: str = "losant_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.notebook_id = notebook_id
        self.execution_id = execution_id
        self.since = since
        self.application_id = application_id
        self.deferrable = deferrable
        self.losant_conn_id = losant_conn_id
        self._report: Report | None = None
        if deferrable and start_from_trigger:
            self.start_trigger_args = self._starting()
            self.start_from_trigger = self.start_trigger_args is not None

    def execute(self, context: Context) -> Any:
        """Wait where the DAG's author wants it."""
        if not self.deferrable:
            return super().execute(context)
        try:
            seen = self.poke(context)
        except AirflowFailException as error:
            # As BaseSensorOperator does around a poke, and around the return from a trigger.
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from error
            raise
        if isinstance(seen, PokeReturnValue):
            return seen.xcom_value
        return self._defer()

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Look once."""
        from airflow_provider_losant.api.flows import polling

        hook = self._hook()
        target = self._target(hook)
        LosantNotebookLink().push(context, hook.notebook_url(target))
        glance = hook.client.run(polling.wait_for_execution(target, self._patience(deadline=0.0)))
        if glance.ending == "deadline":
            return False
        return PokeReturnValue(is_done=True, xcom_value=self._finish(context, hook, glance))

    def execute_complete(self, context: Context, event: dict[str, Any] | None) -> dict[str, Any]:
        """Take over from the trigger, unless its event is another execution's (see the operator's)."""
        from airflow_provider_losant.api.flows.outcome import Outcome

        if event is None:
            return self.execute(context)  # type: ignore[no-any-return]  # as Airflow has it
        outcome, hook = Outcome.from_event(event), self._hook()
        target, told = self._target(hook), outcome.result
        is_mine = target.notebook_id == told["notebook_id"]
        if not is_mine or target.execution_id not in (None, told["execution_id"]):
            return self.execute(context)  # type: ignore[no-any-return]  # as Airflow has it
        return self._finish(context, hook, outcome)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Tell OpenLineage what the run has read and written; Airflow asks this after a failure, too."""
        from airflow_provider_losant.openlineage.emit import lineage_of_run

        return lineage_of_run(self._report, self, task_instance)

    def _hook(self) -> LosantHook:
        from airflow_provider_losant.hooks.losant import LosantHook

        return LosantHook(self.losant_conn_id, self.application_id)

    def _target(self, hook: LosantHook) -> Target:
        from airflow_provider_losant.hooks.target import resolve_target

        return resolve_target(
            hook, notebook_id=self.notebook_id, execution_id=self.execution_id, since=self.since
        )

    def _starting(self) -> Any:
        from airflow_provider_losant.triggers.start_args import start_trigger_args

        fields = {name: getattr(self, name) for name in self.template_fields}
        if isinstance(self.since, date):
            fields["since"] = self.since.isoformat()
        return start_trigger_args(poll_interval=self.poke_interval or 1.0, timeout=self.timeout, **fields)

    def _patience(self, deadline: float) -> WaitConfig:
        from airflow_provider_losant.api.flows.wait import WaitConfig

        return WaitConfig(
            poll_interval=self.poke_interval or 1.0, deadline=deadline, max_poll_outage=self.timeout
        )

    def _defer(self) -> NoReturn:
        from airflow_provider_losant.triggers.notebook import LosantNotebookExecutionTrigger

        config = self._patience(deadline=time.time() + self.timeout)
        trigger = LosantNotebookExecutionTrigger.for_task(
            self._target(self._hook()),
            config,
            not_before=time.time() + config.poll_interval,
            losant_conn_id=self.losant_conn_id,
        )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=trigger.deferral_timeout)

    def _finish(self, context: Context, hook: LosantHook, outcome: Outcome) -> dict[str, Any]:
        from airflow_provider_losant.assets.notebook import fill_outlet_events
        from airflow_provider_losant.exceptions import NotebookExecutionError, NotebookWaitTimedOut
        from airflow_provider_losant.execution.result import result_or_raise
        from airflow_provider_losant.openlineage.collect import collect

        self._report = collect(hook, outcome.result, outcome)
        url = hook.notebook_url(self._target(hook))
        try:
            result = result_or_raise(
                outcome, url=url, limit=f"timeout ({self.timeout:g} s)", log=self.log.log
            )
        except NotebookWaitTimedOut as error:
            raise AirflowSensorTimeout(str(error)) from error
        except NotebookExecutionError as error:
            raise AirflowFailException(str(error)) from error
        if self._report is not None:
            self._report = self._report.with_result(result)
        fill_outlet_events(self, context, result, hook.settings.base_url)
        return result
