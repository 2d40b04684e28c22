# SPDX-License-Identifier: Apache-2.0
"""The execute operator's arguments, checked once when its task starts or resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.fields import is_given, losant_id, optional_text
from airflow_provider_losant.api.flows.start_policy import StartPolicy
from airflow_provider_losant.api.flows.wait import WaitConfig
from airflow_provider_losant.api.payloads import encode_context
from airflow_provider_losant.api.timestamps import optional_timestamp, parse_seconds
from airflow_provider_losant.exceptions import permanent_errors_as_config_error
from airflow_provider_losant.execution.mapped_folder import check_mapped_folder
from airflow_provider_losant.execution.outputs import OutputPlan
from airflow_provider_losant.hooks.target import name_to_find

if TYPE_CHECKING:
    from airflow_provider_losant._compat import BaseOperator
    from airflow_provider_losant.api.flows.start_policy import IfRunning, OnExceeded, Window
    from airflow_provider_losant.hooks.losant import LosantHook

_UNCHANGED = (
    "wait_for_completion",
    "deferrable",
    "cancel_on_kill",
    "cancel_on_timeout",
    "durable",
    "reconnect_after_clear",
    "if_running",
    "max_minutes",
    "minutes_window",
    "on_exceeded",
    "retry_on",
    "losant_conn_id",
)
SIGNAL_MARGIN = 30.0
"""Seconds after the end of ``execution_timeout`` within which Airflow ends a task that waits in a worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecuteArguments:
    """
    The arguments under the operator's names, in the types that the provider computes with.

    :param notebook_id: Empty as long as only ``notebook_name`` is known.
    :param template_context: JSON text.
    :param poll_interval: Seconds, as are ``timeout``, ``max_poll_outage`` and ``max_log_lag``.
    :param try_deadline: Epoch seconds at which Airflow's ``execution_timeout`` of this try is over, and the
        argument with its value; None when there is none.
    """

    application_id: str
    notebook_id: str
    notebook_name: str | None
    relative_to: datetime | None
    template_context: str | None
    notification_email: str | None
    callback_url: str | None
    wait_for_completion: bool
    deferrable: bool
    poll_interval: float
    timeout: float
    try_deadline: tuple[float, str] | None
    cancel_on_kill: bool
    cancel_on_timeout: bool
    durable: bool
    reconnect_after_clear: bool
    max_poll_outage: float
    max_log_lag: float
    if_running: IfRunning
    max_minutes: float | None
    minutes_window: Window
    on_exceeded: OnExceeded
    outputs: OutputPlan
    retry_on: Sequence[str]
    losant_conn_id: str

    @classmethod
    def parse(cls, task: BaseOperator, hook: LosantHook, task_instance: Any) -> ExecuteArguments:
        """
        Check every argument of an operator, before any request.

        :raises LosantConfigError: an argument is missing or invalid; the message names it.
        """
        given: Any = task
        unchanged: dict[str, Any] = {name: getattr(given, name) for name in _UNCHANGED}
        map_index = getattr(task_instance, "map_index", None)
        with permanent_errors_as_config_error():
            if is_given(given.save_outputs_to) and map_index is not None and map_index >= 0:
                check_mapped_folder(task)
            name = name_to_find(given.notebook_id, given.notebook_name)
            arguments = cls(
                application_id=hook.resolve_application_id(),
                notebook_id="" if name else losant_id(given.notebook_id, field="notebook_id"),
                notebook_name=name,
                relative_to=optional_timestamp(given.relative_to, field="relative_to"),
                template_context=encode_context(given.template_context),
                notification_email=optional_text(given.notification_email, field="notification_email"),
                callback_url=optional_text(given.callback_url, field="callback_url"),
                try_deadline=_try_deadline(given, task_instance),
                poll_interval=parse_seconds(given.poll_interval, field="poll_interval"),
                timeout=parse_seconds(given.timeout, field="timeout"),
                max_poll_outage=parse_seconds(given.max_poll_outage, field="max_poll_outage"),
                max_log_lag=parse_seconds(given.max_log_lag, field="max_log_lag"),
                outputs=OutputPlan.parse(
                    save_outputs_to=given.save_outputs_to,
                    save_outputs_when=given.save_outputs_when,
                    log_output=given.log_output,
                    values_from=given.values_from,
                    wait_for_completion=given.wait_for_completion,
                ),
                **unchanged,
            )
        arguments.start_policy(0.0)
        return arguments

    def start_policy(self, waiting_since: float, replaces: Sequence[str] = ()) -> StartPolicy | None:
        """
        Return the conditions for a submission; None when there are none, and so nothing to ask Losant.

        :param waiting_since: Epoch seconds since when the task has waited to submit, in whatever process.
        :param replaces: IDs of the executions that it has cancelled meanwhile.
        :raises LosantConfigError: a condition is invalid.
        """
        with permanent_errors_as_config_error():
            policy = StartPolicy(
                if_running=self.if_running,
                max_minutes=self.max_minutes,
                minutes_window=self.minutes_window,
                on_exceeded=self.on_exceeded,
                replaces=replaces,
                give_up_at=self.deadline(waiting_since)[0],
                poll_interval=self.poll_interval,
                may_wait_here=not self.deferrable,
            ).validate()
        return None if policy.is_unconditional else policy

    def wait_config(self, since: float) -> WaitConfig:
        """
        Return how often to poll, and for how long.

        :param since: Epoch seconds from which ``timeout`` counts.
        """
        return WaitConfig(
            poll_interval=self.poll_interval,
            deadline=self.deadline(since)[0],
            max_poll_outage=self.max_poll_outage,
        )

    def deadline(self, since: float) -> tuple[float, str]:
        """
        Return the epoch seconds at which a wait is over, and the argument that says so, with its value.

        :param since: Epoch seconds from which ``timeout`` counts.
        """
        by_timeout = (since + self.timeout, f"timeout ({self.timeout:g} s)")
        if self.try_deadline is None:
            return by_timeout
        return min(by_timeout, self.try_deadline)


def _try_deadline(task: Any, task_instance: Any) -> tuple[float, str] | None:
    """
    Return the end of ``execution_timeout``, which Airflow does not enforce while a task is deferred.

    In a worker Airflow raises an exception out of a signal handler. Python ignores it if a destructor is
    running just then, so the wait ends a while after.
    """
    started = getattr(task_instance, "start_date", None)
    if not (task.execution_timeout and started):
        return None
    allowed: float = task.execution_timeout.total_seconds()
    margin = 0.0 if task.deferrable else SIGNAL_MARGIN
    return started.timestamp() + allowed + margin, f"execution_timeout ({allowed:g} s)"
