# SPDX-License-Identifier: Apache-2.0
"""Wait for a notebook's execution in the triggerer, where waiting costs no worker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_losant._compat import has_left_deferral, trigger_is_told_of_kills
from airflow_provider_losant.api import flows
from airflow_provider_losant.api.watch import Patience, Target, Watch
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.triggers.poller import follow
from airflow_provider_losant.triggers.start import net_margin

if TYPE_CHECKING:
    from airflow_provider_losant.api.model import ExecutionRef

HAND_OVER = 10.0
"""
Seconds that Airflow's scheduler is given to take note that a task has been deferred.

It fails a task whose trigger fires before (apache/airflow#66374, #67287, #71580, #72716).
"""
KILL_BUDGET = 25.0
"""Seconds for a cancel after a kill; Airflow gives a trigger 30."""


class LosantNotebookExecutionTrigger(BaseTrigger):
    """
    Fire one event when an execution has ended, or when the patience to wait for it has.

    Its arguments are a wire format: they are stored in Airflow's database, and an older or newer version
    of this package may read them. So they are flat JSON, and only ever added to, with defaults. All
    instants are epoch seconds, as a monotonic clock means nothing to another process.

    :param losant_conn_id: The Airflow connection.
    :param application_id: The application.
    :param notebook_id: The notebook.
    :param execution_id: The execution; None waits for the first one queued after ``since`` that ends.
    :param since: When the execution was made, or after when it has to be queued.
    :param poll_interval: Seconds between looks.
    :param deadline: When the wait is over.
    :param max_poll_outage: Seconds without one readable answer after which the wait is given up.
    :param first_look: When it may fire at the earliest, except for the deadline.
    :param cancel_on_kill: Stop the run when a user marks or clears the deferred task.
    :param cancel_on_timeout: Stop the run when the deadline passes.
    """

    def __init__(
        self,
        *,
        losant_conn_id: str,
        application_id: str,
        notebook_id: str,
        execution_id: str | None,
        since: float,
        poll_interval: float,
        deadline: float,
        max_poll_outage: float,
        first_look: float = 0.0,
        cancel_on_kill: bool = False,
        cancel_on_timeout: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        self.losant_conn_id = losant_conn_id
        self.target = Target(
            application_id=application_id, notebook_id=notebook_id, execution_id=execution_id, since=since
        )
        self.patience = Patience(
            poll_interval=poll_interval, deadline=deadline, max_poll_outage=max_poll_outage
        )
        self.first_look = first_look
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores: the class and its arguments, one by one."""
        return f"{__name__}.{type(self).__name__}", {
            "losant_conn_id": self.losant_conn_id,
            "application_id": self.target.application_id,
            "notebook_id": self.target.notebook_id,
            "execution_id": self.target.execution_id,
            "since": self.target.since,
            "poll_interval": self.patience.poll_interval,
            "deadline": self.patience.deadline,
            "max_poll_outage": self.patience.max_poll_outage,
            "first_look": self.first_look,
            "cancel_on_kill": self.cancel_on_kill,
            "cancel_on_timeout": self.cancel_on_timeout,
        }

    @classmethod
    def taking_over(
        cls, target: Target, patience: Patience, *, first_look: float = 0.0, **more: Any
    ) -> LosantNotebookExecutionTrigger:
        """Make the trigger of a task that is about to be deferred."""
        first_look = max(first_look, time.time() + HAND_OVER)
        return cls(**asdict(target), **asdict(patience), first_look=first_look, **more)

    @property
    def net(self) -> timedelta:
        """
        How long Airflow may wait for the event.

        Its own timeout skips us, so it is only a net under our deadline, for when no triggerer is left.
        """
        left = self.patience.deadline - time.time()
        return timedelta(seconds=left + net_margin(self.patience.poll_interval))

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch until there is an outcome. An error we do not understand escapes: Airflow shows it."""
        watch = Watch(self.target, self.patience, first_look=self.first_look)
        log = self.logger().log  # the class's, as each object's own would weigh more than its wait
        try:
            async with await self._hook().aclient() as client:
                await follow(watch, client, log)
                ending = flows.conclude(watch, cancel_on_timeout=self.cancel_on_timeout)
                outcome = await client.run(ending, log)
        except asyncio.CancelledError:
            if not trigger_is_told_of_kills():
                await self.on_kill()
            raise
        yield TriggerEvent(outcome.to_event())  # type: ignore[no-untyped-call]  # Airflow's

    async def on_kill(self) -> None:
        """Stop the run after a user marked or cleared the task, and only then."""
        ref = self.target.ref
        if not self.cancel_on_kill or ref is None:
            return
        await _to_its_end(self._stop(ref))

    async def _stop(self, ref: ExecutionRef) -> None:
        if not await has_left_deferral(self.task_instance):
            self.log.info("The %s is left running: its task is still deferred", self.target)
            return
        await self._hook().arun(flows.cancel(ref, "its deferred task was marked or cleared", retries=2))

    def _hook(self) -> LosantHook:
        return LosantHook(self.losant_conn_id, self.target.application_id)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """
    Carry out a kill's work, however often it is interrupted.

    Airflow repeats the cancellation of a trigger about every second until the trigger is gone, so a cancel
    that takes Losant longer would never get through.
    """
    job = asyncio.ensure_future(asyncio.wait_for(work, KILL_BUDGET))
    while not job.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([job])
    job.result()
