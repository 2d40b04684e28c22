# SPDX-License-Identifier: Apache-2.0
"""The trigger of a sensor whose wait starts in the triggerer, without a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_losant._compat import push_from_triggerer
from airflow_provider_losant.api.defaults import MAX_LOG_LAG
from airflow_provider_losant.api.flows.notebooks import find_notebook
from airflow_provider_losant.api.flows.wait import WaitConfig
from airflow_provider_losant.api.timestamps import parse_timestamp
from airflow_provider_losant.hooks.arguments import is_rendered
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.hooks.target import NOTEBOOK_KEY, name_to_find, resolve_target
from airflow_provider_losant.links.notebook import LosantNotebookLink
from airflow_provider_losant.triggers.notebook import LosantNotebookExecutionTrigger
from airflow_provider_losant.triggers.stored import check_unknown

if TYPE_CHECKING:
    import jinja2

START_TIMEOUT = 60.0
"""Seconds for rendering the arguments and reading the connection, which may be slow the first time."""


class LosantNotebookSensorTrigger(BaseTrigger):
    """
    Render a sensor's arguments as a worker would, and then wait for the execution.

    The triggerer renders with less than a worker has: no macros or filters of the DAG, no XComs of mapped
    tasks, and no native objects, in which ``context_contains`` may differ. If the wait cannot start here for
    any reason, the event is None, and a worker starts it.

    The arguments are a wire format, as those of
    :class:`~airflow_provider_losant.triggers.notebook.LosantNotebookExecutionTrigger`. The scheduler stores
    them as in the DAG, so they contain no timestamp of the task instance.

    :param losant_conn_id: The Airflow connection. (templated)
    :param application_id: ID of the application; by default the connection's. (templated)
    :param notebook_id: ID of the notebook; either this or ``notebook_name``. (templated)
    :param notebook_name: Its exact name, by which it is found. (templated)
    :param execution_id: ID of the execution to wait for. (templated)
    :param since: Without an ``execution_id``: wait for the first execution to end of those queued since then.
        (templated)
    :param poll_interval: Seconds between polls.
    :param timeout: Seconds that the wait may take.
    :param deferral_timeout: Seconds after which Airflow ends the deferral.
    :param statuses: With ``since``: the final statuses that count; None for all.
    :param context_contains: With ``since``: what the template context contains: a mapping, or JSON text; None
        for any. (templated)
    :param max_log_lag: Seconds that an execution may be missing in the execution log after it was submitted.
    :param stored: Whether Airflow has stored these arguments. Unknown ones, of a newer version of this
        package, are then ignored.
    """

    def __init__(
        self,
        *,
        losant_conn_id: str,
        application_id: str | None,
        notebook_id: str | None,
        execution_id: str | None,
        since: str | float | None,
        poll_interval: float,
        timeout: float,
        deferral_timeout: float,
        statuses: Sequence[str] | None = None,
        context_contains: Mapping[str, Any] | str | None = None,
        max_log_lag: float = MAX_LOG_LAG,
        notebook_name: str | None = None,
        stored: bool = False,
        **unknown: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        check_unknown(self, unknown, stored=stored)
        self.losant_conn_id = losant_conn_id
        self.application_id = application_id
        self.notebook_id = notebook_id
        self.notebook_name = notebook_name
        self.execution_id = execution_id
        self.since = since
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.deferral_timeout = deferral_timeout
        self.statuses = statuses
        self.context_contains = context_contains
        self.max_log_lag = max_log_lag
        self._context: Any = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, which Airflow stores."""
        return f"{__name__}.{type(self).__name__}", {
            "losant_conn_id": self.losant_conn_id,
            "application_id": self.application_id,
            "notebook_id": self.notebook_id,
            "notebook_name": self.notebook_name,
            "execution_id": self.execution_id,
            "since": self.since,
            "poll_interval": self.poll_interval,
            "timeout": self.timeout,
            "deferral_timeout": self.deferral_timeout,
            "statuses": self.statuses,
            "context_contains": self.context_contains,
            "max_log_lag": self.max_log_lag,
            "stored": True,
        }

    def render_template_fields(self, context: Any, jinja_env: jinja2.Environment | None = None) -> None:
        """Keep the context for :meth:`run`, where rendering has a timeout and an error does not crash it."""
        self._context = context

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Start the wait and yield its event; yield None if a worker has to start it."""
        try:
            async with asyncio.timeout(START_TIMEOUT):
                trigger = await self._execution_trigger()
        except Exception as error:  # noqa: BLE001 - the worker gets the same error, and reports it
            self.logger().warning(
                "Could not start the wait in the triggerer (%s: %s); a worker will start it",
                type(error).__name__,
                error,
            )
            yield TriggerEvent(None)  # type: ignore[no-untyped-call]  # Airflow's
            return
        async for event in trigger.run():
            yield event

    async def _execution_trigger(self) -> LosantNotebookExecutionTrigger:
        if self._context is not None:
            self._render_arguments(self._context)
        hook = LosantHook(self.losant_conn_id, self.application_id)
        await hook.aload_settings()
        target = resolve_target(
            hook,
            notebook_id=await self._find_notebook(hook),
            execution_id=self.execution_id,
            since=self.since,
            statuses=self.statuses,
            context_contains=self.context_contains,
        )
        if self._context is not None:
            await LosantNotebookLink().apush(self._context, hook.notebook_url(target))
        config = WaitConfig(
            poll_interval=self.poll_interval,
            deadline=self._deadline(),
            max_poll_outage=self.timeout,
            not_found_after=self.max_log_lag,
        )
        return LosantNotebookExecutionTrigger(
            losant_conn_id=self.losant_conn_id, **asdict(target), **asdict(config)
        )

    async def _find_notebook(self, hook: LosantHook) -> str | None:
        name = name_to_find(self.notebook_id, self.notebook_name)
        if name is None:
            return self.notebook_id
        flow = find_notebook(hook.resolve_application_id(), name, hook.settings.max_retries)
        found = (await hook.arun(flow)).id
        if self._context is not None:
            await push_from_triggerer(self._context["ti"], NOTEBOOK_KEY, found)
        return found

    def _render_arguments(self, context: Any) -> None:
        from jinja2 import StrictUndefined

        if is_rendered(self.context_contains) and self._renders_native_objects():
            raise LookupError("the triggerer renders templates in context_contains to text only")
        env = self.get_template_env()
        env.undefined = StrictUndefined
        ti = _TemplateTaskInstance(context["ti"])
        template_context: Any = {**context, "ti": ti, "task_instance": ti}
        super().render_template_fields(template_context, env)

    def _renders_native_objects(self) -> bool:
        """Tell whether a worker renders templates of the task to native objects."""
        of_task = getattr(self.task, "render_template_as_native_obj", None)
        of_dag = getattr(getattr(self.task, "dag", None), "render_template_as_native_obj", False)
        return bool(of_dag if of_task is None else of_task)

    def _deadline(self) -> float:
        """
        Return the wait's deadline as epoch seconds, the same after a restart of the triggerer.

        It is derived from ``timeout_after``, the only timestamp here that Airflow keeps across a restart.
        """
        end = getattr(self, "timeout_after", None)
        if end is None:
            return time.time() + self.timeout
        execution_timeout = getattr(self.task, "execution_timeout", None) or timedelta.max
        deferral_timeout = min(timedelta(seconds=self.deferral_timeout), execution_timeout)
        started_at = parse_timestamp(end, field="timeout_after") - deferral_timeout
        return started_at.timestamp() + self.timeout


class _TemplateTaskInstance:
    """
    The task instance in templates.

    In the triggerer, ``xcom_pull`` without a map index gets no response (Airflow 3.3.2), so it is called with
    the map index of a task that is not mapped. If that finds no XCom, a worker may find one.
    """

    def __init__(self, ti: Any) -> None:
        self._ti = ti

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ti, name)

    def xcom_pull(self, *args: Any, map_indexes: Any = None, **kwargs: Any) -> Any:
        """
        Return an XCom of a task that is not mapped.

        :raises LookupError: there is none.
        """
        found = self._ti.xcom_pull(*args, map_indexes=map_indexes, **kwargs)
        if found is None:
            raise LookupError("the triggerer found no XCom for a template")
        return found
