# SPDX-License-Identifier: Apache-2.0
"""Run a notebook as a TaskFlow task: the function returns the template context."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict, Unpack

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import TaskDecorator

    from airflow_provider_losant._compat import Context
    from airflow_provider_losant.api.defaults import IfRunning, OnExceeded, SaveOutputsWhen, Window


class NotebookTask(TypedDict, total=False):
    """The arguments of :class:`.LosantNotebookExecuteOperator`, except ``template_context``."""

    notebook_id: str | None
    notebook_name: str | None
    application_id: str | None
    relative_to: datetime | str | float | None
    notification_email: str | None
    callback_url: str | None
    wait_for_completion: bool
    deferrable: bool
    poll_interval: float | timedelta
    timeout: float | timedelta
    cancel_on_kill: bool
    cancel_on_timeout: bool
    durable: bool
    reconnect_after_clear: bool
    max_poll_outage: float | timedelta
    max_log_lag: float | timedelta
    if_running: IfRunning
    max_minutes: float | None
    minutes_window: Window
    on_exceeded: OnExceeded
    save_outputs_to: str | PathLike[str] | None
    save_outputs_when: SaveOutputsWhen
    log_output: bool
    retry_on: str | Sequence[str]
    values_from: str | None
    losant_conn_id: str


class _LosantNotebookDecoratedOperator(DecoratedOperator, LosantNotebookExecuteOperator):
    """Calls the function to get the template context, and then runs the notebook."""

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(it for it in LosantNotebookExecuteOperator.template_fields if it != "template_context"),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {**DecoratedOperator.template_fields_renderers}
    custom_operator_name: str = "@task.losant_notebook"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if "template_context" in kwargs:
            raise TypeError("template_context: not allowed here; return it from the decorated function")
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, **kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        """Call the function, then run the notebook; the task's result is that of the notebook."""
        self.template_context = self._call(context)
        return LosantNotebookExecuteOperator.execute(self, context)

    def execute_after_wait(self, context: Context, event: dict[str, Any], **unknown: Any) -> dict[str, Any]:
        """Call the function again, because the task resumes in a new process, then run the notebook."""
        self.template_context = self._call(context)
        return super().execute_after_wait(context, event, **unknown)

    def _call(self, context: Context) -> Mapping[str, Any] | str | None:
        context_merge(context, self.op_kwargs)
        arguments = determine_kwargs(self.python_callable, self.op_args, context)
        returned = self.python_callable(*self.op_args, **arguments)
        if returned is None or isinstance(returned, Mapping | str):
            return returned
        from airflow_provider_losant.exceptions import LosantConfigError

        raise LosantConfigError(
            f"{self.python_callable.__name__} returned a {type(returned).__name__}, not a template context"
        )


def losant_notebook_task(
    python_callable: Callable[..., Any] | None = None,
    *,
    multiple_outputs: bool = False,
    **options: Unpack[NotebookTask],
) -> TaskDecorator:
    """
    Run a notebook with the template context that the decorated function returns: ``@task.losant_notebook``.

    The function returns a mapping, JSON text, or None for no context. The task's result is that of
    :class:`.LosantNotebookExecuteOperator`. Airflow does not render the returned context, because ``{{...}}``
    in it may be Losant's.

    :param multiple_outputs: Whether to push each key of the result as an XCom of its own, too.
    :param options: The arguments of :class:`.LosantNotebookExecuteOperator` and of any task.
    :raises LosantConfigError: the function returned neither a mapping nor a string nor None.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=_LosantNotebookDecoratedOperator,
        **options,
    )
