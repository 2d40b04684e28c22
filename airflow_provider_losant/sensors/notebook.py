# SPDX-License-Identifier: Apache-2.0
"""Wait for an execution that another task, user or system has started."""

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
from airflow_provider_losant.api.defaults import LONGEST, ONE_NOTEBOOK
from airflow_provider_losant.links.notebook import LosantNotebookLink

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.api.flows.outcome import Outcome
    from airflow_provider_losant.api.flows.wait import Target, WaitConfig
    from airflow_provider_losant.execution.publisher import ResultPublisher
    from airflow_provider_losant.hooks.losant import LosantHook


class LosantNotebookExecutionSensor(BaseSensorOperator):
    """
    Wait until an execution of a Losant notebook has ended. The sensor never starts or cancels one.

    In all modes (poke, reschedule, deferrable) it returns the same result (XCom) as
    :class:`~airflow_provider_losant.operators.notebook.LosantNotebookExecuteOperator`. Failed polls are
    tolerated until ``timeout``. An execution that did not complete fails the sensor without a retry, because
    polling again cannot change it, or skips it with ``soft_fail``.

    ``poke_interval``, ``timeout`` (seconds, or timedeltas; at most ten years), ``mode`` and ``soft_fail`` are
    those of every sensor in Airflow, including the defaults: one poll a minute, for a week.

    :param notebook_id: ID of the notebook; give either this or ``notebook_name``. (templated)
    :param notebook_name: The notebook's exact name, by which it is found when the sensor starts; in the mode
        ``reschedule`` at each poke. (templated)
    :param execution_id: ID of the execution to wait for. (templated)
    :param since: Without an ``execution_id``: of the executions queued at this time or later, wait for the
        first to end, with any status; datetime, ISO-8601 string or epoch *milliseconds*, in UTC if no time
        zone is given. (templated)
    :param application_id: ID of the application; by default the connection's. (templated)
    :param deferrable: Wait in the triggerer instead of in a worker.
    :param start_from_trigger: With ``deferrable``: start in the triggerer, too, so that no worker is needed
        before the execution has ended. Where Airflow does not support it (before 3.3, mapped tasks), the
        sensor starts in a worker.
    :param losant_conn_id: The Airflow connection. (templated)
    :raises LosantConfigError: an argument, the connection or the token is invalid.
    :raises AirflowFailException: the execution did not complete.
    :raises AirflowSensorTimeout: it had not ended within ``timeout``.
    """

    template_fields: Sequence[str] = (
        "notebook_id",
        "notebook_name",
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
        notebook_id: str | None = None,
        notebook_name: str | None = None,
        execution_id: str | None = None,
        since: datetime | str | float | None = None,
        application_id: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        start_from_trigger: bool = False,
        losant_conn_id: str = "losant_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (notebook_id is None) == (notebook_name is None):
            raise TypeError(ONE_NOTEBOOK)
        self.notebook_id = notebook_id
        self.notebook_name = notebook_name
        self.execution_id = execution_id
        self.since = since
        self.application_id = application_id
        self.deferrable = deferrable
        self.losant_conn_id = losant_conn_id
        self._found_id: str | None = None
        self._publisher: ResultPublisher | None = None
        if deferrable and start_from_trigger:
            self.start_trigger_args = self._start_trigger_args()
            self.start_from_trigger = self.start_trigger_args is not None

    def execute(self, context: Context) -> Any:
        """Wait in the triggerer if the sensor is deferrable, otherwise poll here."""
        if not self.deferrable:
            return super().execute(context)
        try:
            self._find_notebook(context, self._hook(), max_outage=self._timeout)
            result = self.poke(context)
        except AirflowFailException as error:
            # As BaseSensorOperator does around a poke, and around the return from a trigger.
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from error
            raise
        if isinstance(result, PokeReturnValue):
            return result.xcom_value
        return self._defer()

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Poll once."""
        from airflow_provider_losant.api.errors import LosantError
        from airflow_provider_losant.api.flows.polling import wait_for_execution

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

    @property
    def _poll_interval(self) -> float:
        return min(self.poke_interval, LONGEST) or 1.0

    def _target(self, hook: LosantHook) -> Target:
        from airflow_provider_losant.hooks.target import resolve_target

        return resolve_target(
            hook, notebook_id=self._found_id, execution_id=self.execution_id, since=self.since
        )

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

    def _start_trigger_args(self) -> Any:
        from airflow_provider_losant.triggers.start_args import start_trigger_args

        fields = {name: getattr(self, name) for name in self.template_fields}
        if isinstance(self.since, date):
            fields["since"] = self.since.isoformat()
        return start_trigger_args(poll_interval=self._poll_interval, timeout=self._timeout, **fields)

    def _wait_config(self, deadline: float) -> WaitConfig:
        from airflow_provider_losant.api.flows.wait import WaitConfig

        return WaitConfig(poll_interval=self._poll_interval, deadline=deadline, max_poll_outage=self._timeout)

    def _defer(self) -> NoReturn:
        from airflow_provider_losant.triggers.notebook import LosantNotebookExecutionTrigger

        config = self._wait_config(deadline=time.time() + self._timeout)
        trigger = LosantNotebookExecutionTrigger.for_task(
            self._target(self._hook()),
            config,
            not_before=time.time() + config.poll_interval,
            losant_conn_id=self.losant_conn_id,
        )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=trigger.deferral_timeout)

    def _finish(self, context: Context, hook: LosantHook, outcome: Outcome) -> dict[str, Any]:
        from airflow_provider_losant.exceptions import NotebookExecutionError, NotebookWaitTimedOut
        from airflow_provider_losant.execution.publisher import ResultPublisher

        self._publisher = publisher = ResultPublisher(self, context, hook)
        url = hook.notebook_url(self._target(hook))
        try:
            result = publisher.result_or_raise(
                outcome,
                url=url,
                limit=f"timeout ({self._timeout:g} s)",
                fate="the execution was not cancelled",
            )
        except NotebookWaitTimedOut as error:
            raise AirflowSensorTimeout(str(error)) from error
        except NotebookExecutionError as error:
            raise AirflowFailException(str(error)) from error
        return publisher.publish(result)
