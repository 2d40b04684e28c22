# SPDX-License-Identifier: Apache-2.0
"""Begin a sensor's wait in the triggerer, without a worker before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_losant.api.flows.wait import WaitConfig
from airflow_provider_losant.api.timestamps import parse_timestamp
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.hooks.target import resolve_target
from airflow_provider_losant.links.notebook import LosantNotebookLink
from airflow_provider_losant.triggers.notebook import LosantNotebookExecutionTrigger

if TYPE_CHECKING:
    import jinja2

BEGINNING = 60.0
"""Seconds that rendering the arguments and reading the connection may take: the first time, many."""


class LosantNotebookSensorTrigger(BaseTrigger):
    """
    Do what a deferrable sensor does in its worker, and then wait as it would.

    Airflow renders the arguments here, but knows less than in a worker: no macros or filters of the DAG, no
    XComs of mapped tasks. Whatever keeps the wait from beginning, the event is None, and a worker begins it.

    The arguments are a wire format, as those of
    :class:`~airflow_provider_losant.triggers.notebook.LosantNotebookExecutionTrigger`. The scheduler stores
    them as the DAG says them, so no instant of this very task can be among them.

    :param losant_conn_id: The Airflow connection. (templated)
    :param application_id: The application; by default the connection's. (templated)
    :param notebook_id: The notebook. (templated)
    :param execution_id: The execution to wait for. (templated)
    :param since: Without an ``execution_id``: since when it has to be queued. (templated)
    :param poll_interval: Seconds between looks.
    :param timeout: Seconds that the wait may take.
    :param deferral_timeout: Seconds after which Airflow ends it.
    """

    def __init__(
        self,
        *,
        losant_conn_id: str,
        application_id: str | None,
        notebook_id: str,
        execution_id: str | None,
        since: str | float | None,
        poll_interval: float,
        timeout: float,
        deferral_timeout: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        self.losant_conn_id = losant_conn_id
        self.application_id = application_id
        self.notebook_id = notebook_id
        self.execution_id = execution_id
        self.since = since
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.deferral_timeout = deferral_timeout
        self._context: Any = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores: the class and its arguments, one by one."""
        return f"{__name__}.{type(self).__name__}", {
            "losant_conn_id": self.losant_conn_id,
            "application_id": self.application_id,
            "notebook_id": self.notebook_id,
            "execution_id": self.execution_id,
            "since": self.since,
            "poll_interval": self.poll_interval,
            "timeout": self.timeout,
            "deferral_timeout": self.deferral_timeout,
        }

    def render_template_fields(self, context: Any, jinja_env: jinja2.Environment | None = None) -> None:
        """Put rendering off until :meth:`run`, where an error of it is no crash and it can be given up."""
        self._context = context

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Begin, and wait until there is an outcome; None when a worker has to begin."""
        try:
            async with asyncio.timeout(BEGINNING):
                wait = await self._begin()
        except Exception as error:  # noqa: BLE001 - the worker meets it again, and says what is wrong
            self.logger().warning("A worker has to begin this wait: %s: %s", type(error).__name__, error)
            yield TriggerEvent(None)  # type: ignore[no-untyped-call]  # Airflow's
            return
        async for event in wait.run():
            yield event

    async def _begin(self) -> LosantNotebookExecutionTrigger:
        if self._context is not None:
            self._fill_in(self._context)
        hook = LosantHook(self.losant_conn_id, self.application_id)
        await hook.aload_settings()
        target = resolve_target(
            hook, notebook_id=self.notebook_id, execution_id=self.execution_id, since=self.since
        )
        if self._context is not None:
            await LosantNotebookLink().apush(self._context, hook.notebook_url(target))
        config = WaitConfig(
            poll_interval=self.poll_interval, deadline=self._deadline(), max_poll_outage=self.timeout
        )
        return LosantNotebookExecutionTrigger(
            losant_conn_id=self.losant_conn_id, **asdict(target), **asdict(config)
        )

    def _fill_in(self, context: Any) -> None:
        from jinja2 import StrictUndefined

        env = self.get_template_env()
        env.undefined = StrictUndefined
        ti = _Upstream(context["ti"])
        own: Any = {**context, "ti": ti, "task_instance": ti}
        super().render_template_fields(own, env)

    def _deadline(self) -> float:
        """
        Return when the wait is over, as epoch seconds, also after a restart of the triggerer.

        The only instant that outlives one and is told here is Airflow's own end of the wait.
        """
        end = getattr(self, "timeout_after", None)
        if end is None:
            return time.time() + self.timeout
        execution_timeout = getattr(self.task, "execution_timeout", None) or timedelta.max
        allowed = min(timedelta(seconds=self.deferral_timeout), execution_timeout)
        began = parse_timestamp(end, field="timeout_after") - allowed
        return began.timestamp() + self.timeout


class _Upstream:
    """
    The task instance, as templates see it.

    A pull that names no map index gets no answer at all in the triggerer (Airflow 3.3.2), so it is for tasks
    that are not mapped. What it does not find there, a worker may find elsewhere.
    """

    def __init__(self, ti: Any) -> None:
        self._ti = ti

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ti, name)

    def xcom_pull(self, *args: Any, map_indexes: Any = None, **kwargs: Any) -> Any:
        """Return an XCom that is there."""
        found = self._ti.xcom_pull(*args, map_indexes=map_indexes, **kwargs)
        if found is None:
            raise LookupError("the triggerer does not find an XCom that a template asks for")
        return found
