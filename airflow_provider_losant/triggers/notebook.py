# SPDX-License-Identifier: Apache-2.0
"""Wait for a notebook's executions in the triggerer, where waiting costs no worker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Hashable, Sequence
from contextlib import aclosing
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_losant._compat import (
    BaseEventTrigger,
    has_left_deferral,
    trigger_is_told_of_kills,
)
from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.flows import polling
from airflow_provider_losant.api.flows.wait import Patience, Target, Watch
from airflow_provider_losant.api.model import COMPLETED, STATUSES, losant_id
from airflow_provider_losant.api.timestamps import parse_seconds
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.triggers.event_stream import endings
from airflow_provider_losant.triggers.shared_poll import follow
from airflow_provider_losant.triggers.start_args import net_margin

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import SharedStreamProducer

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
                ending = polling.conclude(watch, cancel_on_timeout=self.cancel_on_timeout)
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
        await self._hook().arun(polling.cancel(ref, "its deferred task was marked or cleared", retries=2))

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


class LosantNotebookEventTrigger(BaseEventTrigger):
    """
    Fire an event for every execution of a notebook that ends, whoever started it: for an ``AssetWatcher``.

    The event's payload is the execution's result, as the operator returns it, ``execution_id`` and
    ``status`` among it. What ended before the trigger first looked is not told, what was under way then is.

    On Airflow 3.3 and later it goes on where it was after a restart of the triggerer, also with what ended
    meanwhile: what has been told is kept with the asset, once Airflow has confirmed that it has the event.
    An event is told twice only if the triggerer is killed in the second between the two. On Airflow 3.0 to
    3.2 it begins anew with every restart.

    Losant that cannot be reached, or refuses, is no end: it is asked again and again.

    :param notebook_id: ID of the notebook.
    :param application_id: ID of the application; by default the connection's.
    :param statuses: Which ends to tell of: some of ``completed``, ``errored``, ``timeout``, ``canceled``.
    :param poll_interval: Time between looks: seconds or a timedelta. Whatever else waits on the notebook in
        the same triggerer shares them.
    :param losant_conn_id: The Airflow connection.
    :raises InvalidArgument: an argument cannot be right.
    :raises LosantConfigError: this Airflow is older than 3.0.
    """

    def __init__(
        self,
        *,
        notebook_id: str,
        application_id: str | None = None,
        statuses: Sequence[str] = (COMPLETED.name,),
        poll_interval: float | timedelta = 60.0,
        losant_conn_id: str = "losant_default",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        self.notebook_id = losant_id(notebook_id, field="notebook_id")
        self.application_id = application_id and losant_id(application_id, field="application_id")
        self.statuses = _final(statuses)
        self.poll_interval = parse_seconds(poll_interval, field="poll_interval")
        self.losant_conn_id = losant_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores: the class and its arguments, one by one."""
        return f"{__name__}.{type(self).__name__}", {
            "notebook_id": self.notebook_id,
            "application_id": self.application_id,
            "statuses": list(self.statuses),
            "poll_interval": self.poll_interval,
            "losant_conn_id": self.losant_conn_id,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire for what ends from now on: all there is to do on Airflow before 3.3."""
        async with aclosing(endings(self)) as found:
            async for payload, _ in found:
                if payload is not None:
                    yield TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow's

    def shared_stream_key(self) -> Hashable:
        """Be alone in a stream: all it is for is the confirmation of events."""
        return (type(self).__name__, self.trigger_id)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Let Airflow confirm each event, so that it is remembered neither too early nor never."""
        from airflow_provider_losant.triggers.acked_stream import ConfirmedEvents

        return ConfirmedEvents()

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Fire for what the producer yields, once it has been told who asks."""
        async for item in shared_stream:
            if isinstance(item, asyncio.Future):
                item.set_result(self)
            elif item is not None:
                yield TriggerEvent(item)  # type: ignore[no-untyped-call]  # Airflow's


def _final(statuses: Sequence[str]) -> tuple[str, ...]:
    known = [name for name, status in STATUSES.items() if status.is_final]
    if isinstance(statuses, str) or not statuses or not set(statuses) <= set(known):
        raise InvalidArgument("statuses", f"{statuses!r} is not a list of some of {', '.join(known)}")
    return tuple(statuses)
