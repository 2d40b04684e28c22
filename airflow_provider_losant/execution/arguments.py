# SPDX-License-Identifier: Apache-2.0
"""The execute operator's arguments, checked once when its task starts or resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.fields import is_given, losant_id
from airflow_provider_losant.api.flows.start_policy import StartPolicy
from airflow_provider_losant.api.flows.wait import WaitConfig
from airflow_provider_losant.api.payloads import encode_context
from airflow_provider_losant.exceptions import permanent_errors_as_config_error
from airflow_provider_losant.execution.deadline import deadline_of_try, first_deadline
from airflow_provider_losant.execution.mapped_folder import check_mapped_folder
from airflow_provider_losant.execution.outputs import OutputPlan
from airflow_provider_losant.hooks.arguments import parse_argument, parse_optional
from airflow_provider_losant.hooks.target import name_to_find

if TYPE_CHECKING:
    from airflow_provider_losant._compat import BaseOperator
    from airflow_provider_losant.api.defaults import IfRunning, OnExceeded, Window
    from airflow_provider_losant.execution.deadline import Deadline
    from airflow_provider_losant.hooks.losant import LosantHook

_PARSED = (
    "wait_for_completion",
    "deferrable",
    "cancel_on_kill",
    "cancel_on_timeout",
    "durable",
    "reconnect_after_clear",
    "poll_interval",
    "timeout",
    "max_poll_outage",
    "max_log_lag",
    "if_running",
    "minutes_window",
    "on_exceeded",
    "retry_on",
    "losant_conn_id",
)
_OPTIONAL = ("notification_email", "callback_url", "max_minutes", "relative_to")


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
    try_deadline: Deadline | None
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
    def parse(
        cls, task: BaseOperator, hook: LosantHook, task_instance: Any, *, is_resumed: bool
    ) -> ExecuteArguments:
        """
        Check every argument of an operator, before any request.

        :param is_resumed: The task was deferred before.
        :raises LosantConfigError: an argument is missing or invalid; the message names it.
        """
        given: Any = task
        map_index = getattr(task_instance, "map_index", None)
        with permanent_errors_as_config_error():
            if is_given(given.save_outputs_to) and map_index is not None and map_index >= 0:
                check_mapped_folder(task)
            name = name_to_find(given.notebook_id, given.notebook_name)
            parsed = {name: parse_argument(name, getattr(given, name)) for name in _PARSED}
            parsed |= {name: parse_optional(name, getattr(given, name)) for name in _OPTIONAL}
            return cls(
                application_id=hook.resolve_application_id(),
                notebook_id="" if name else losant_id(given.notebook_id, field="notebook_id"),
                notebook_name=name,
                template_context=encode_context(given.template_context),
                try_deadline=deadline_of_try(given, task_instance),
                outputs=OutputPlan.parse(
                    save_outputs_to=given.save_outputs_to,
                    save_outputs_when=given.save_outputs_when,
                    log_output=given.log_output,
                    values_from=given.values_from,
                    wait_for_completion=given.wait_for_completion,
                    # Later, there may be an execution, whose end matters more than a storage that fails.
                    is_opened=not is_resumed and task_instance.try_number == 1,
                ),
                **parsed,
            )

    def start_policy(self, waiting_since: float, replaces: Sequence[str] = ()) -> StartPolicy | None:
        """
        Return the conditions for a submission; None when there are none, and so nothing to ask Losant.

        :param waiting_since: Epoch seconds since when the task has waited to submit, in whatever process.
        :param replaces: IDs of the executions that it has cancelled meanwhile.
        """
        policy = StartPolicy(
            if_running=self.if_running,
            max_minutes=self.max_minutes,
            minutes_window=self.minutes_window,
            on_exceeded=self.on_exceeded,
            replaces=replaces,
            give_up_at=self.deadline(waiting_since)[0],
            poll_interval=self.poll_interval,
            may_wait_here=not self.deferrable,
        )
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

    def deadline(self, since: float) -> Deadline:
        """
        Return the epoch seconds at which a wait is over, and the argument that says so, with its value.

        :param since: Epoch seconds from which ``timeout`` counts.
        """
        return first_deadline(since, self.timeout, self.try_deadline)
