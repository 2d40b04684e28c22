# SPDX-License-Identifier: Apache-2.0
"""Wait for a notebook's executions in the triggerer, without occupying a worker."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Coroutine, Hashable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_losant._compat import (
    BaseEventTrigger,
    asset_stores,
    kill_may_be_reassignment,
    trigger_has_on_kill,
    trigger_task_state,
)
from airflow_provider_losant.api.defaults import MAX_LOG_LAG
from airflow_provider_losant.api.flows.abandoned import why_abandoned
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.execution_filter import parse_context_contains
from airflow_provider_losant.api.flows.polling import conclude
from airflow_provider_losant.api.flows.wait import Target, Wait, WaitConfig
from airflow_provider_losant.api.model import COMPLETED
from airflow_provider_losant.hooks.arguments import parse_argument, parse_optional
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.triggers.event_stream import Subscription, check_queue, completions
from airflow_provider_losant.triggers.shared_poll import wait_until_done
from airflow_provider_losant.triggers.start_args import deferral_margin
from airflow_provider_losant.triggers.stored import check_unknown

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import SharedStreamProducer

    from airflow_provider_losant.api.model import ExecutionRef

MIN_DEFERRAL, MAX_DEFERRAL = 10.0, 60.0
"""
Seconds that Airflow's scheduler gets to notice that a task has been deferred, at least and at most.

It fails a task whose trigger fires before that (apache/airflow#66374, #67287, #71580, #72716).
"""
SCHEDULER_SLOWNESS = 6.0
"""How many times as long the scheduler may take for that as the triggerer took to start the trigger."""
OUTAGE_SPREAD = 1.25
"""How many times ``max_poll_outage`` the longest wait lasts of those that the same outage ends."""
KILL_BUDGET = 25.0
"""Seconds for the cancellation after a kill; Airflow gives a trigger 30."""


class LosantNotebookExecutionTrigger(BaseTrigger):
    """
    Fire one event when an execution has ended, or when the wait for it is given up.

    Its arguments are a wire format: Airflow stores them in its database, and an older or newer version of
    this package may read them. They are JSON without objects, and new ones get defaults. All timestamps are
    epoch seconds, because a monotonic clock means nothing to another process.

    :param losant_conn_id: The Airflow connection.
    :param application_id: ID of the application.
    :param notebook_id: ID of the notebook.
    :param execution_id: ID of the execution; None waits for the first to end of those queued after ``since``.
    :param since: When the execution was created, or after when it must have been queued.
    :param poll_interval: Seconds between polls.
    :param deadline: When the wait is over.
    :param max_poll_outage: Seconds without a readable response after which the wait is given up.
    :param not_before: The earliest time to fire, except at the deadline.
    :param deferred_at: When the task was deferred; 0 if there is no scheduler that has to notice it.
    :param cancel_on_kill: Cancel the execution when a user marks or clears the deferred task.
    :param cancel_on_timeout: Cancel the execution when the deadline passes.
    :param statuses: Without an ``execution_id``: the final statuses that count; empty for all.
    :param context_contains: Without an ``execution_id``: JSON text of an object that the template context
        contains; None for any.
    :param not_found_after: Seconds after the creation of ``execution_id`` from which on the wait ends if the
        complete execution log does not list the execution; None to wait on.
    :param stored: Whether Airflow has stored these arguments. Unknown ones, of a newer version of this
        package, are then ignored.
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
        not_before: float = 0.0,
        deferred_at: float = 0.0,
        cancel_on_kill: bool = False,
        cancel_on_timeout: bool = False,
        statuses: Sequence[str] = (),
        context_contains: str | None = None,
        not_found_after: float | None = None,
        stored: bool = False,
        **unknown: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's
        check_unknown(self, unknown, stored=stored)
        self.losant_conn_id = losant_conn_id
        self.target = Target(
            application_id=application_id,
            notebook_id=notebook_id,
            execution_id=execution_id,
            since=since,
            statuses=tuple(statuses),
            context_contains=context_contains,
        )
        self.config = WaitConfig(
            poll_interval=poll_interval,
            deadline=deadline,
            max_poll_outage=max_poll_outage,
            not_found_after=not_found_after,
        )
        self.not_before = not_before
        self.deferred_at = deferred_at
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
            "poll_interval": self.config.poll_interval,
            "deadline": self.config.deadline,
            "max_poll_outage": self.config.max_poll_outage,
            "not_before": self.not_before,
            "deferred_at": self.deferred_at,
            "cancel_on_kill": self.cancel_on_kill,
            "cancel_on_timeout": self.cancel_on_timeout,
            "statuses": list(self.target.statuses),
            "context_contains": self.target.context_contains,
            "not_found_after": self.config.not_found_after,
            "stored": True,
        }

    @classmethod
    def for_task(
        cls, target: Target, config: WaitConfig, *, not_before: float = 0.0, **more: Any
    ) -> LosantNotebookExecutionTrigger:
        """Make the trigger of a task that is about to be deferred."""
        now = time.time()
        return cls(**asdict(target), **asdict(config), not_before=not_before, deferred_at=now, **more)

    @property
    def deferral_timeout(self) -> timedelta:
        """
        How long Airflow may wait for the event.

        Airflow's own timeout bypasses the trigger, so it is later than the deadline, for the case that no
        triggerer is running.
        """
        left = self.config.deadline - time.time()
        return timedelta(seconds=left + deferral_margin(self.config.poll_interval))

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until there is an outcome, and fire it. An unexpected error propagates: Airflow shows it."""
        # Not all waits that an outage ends resume their tasks at once.
        outage = self.config.max_poll_outage * random.uniform(1.0, OUTAGE_SPREAD)
        config = replace(self.config, max_poll_outage=outage)
        not_before = max(self.not_before, self.scheduler_noticed_at(time.time()))
        wait = Wait(self.target, config, not_before=not_before)
        log = self.logger().log  # the class's: one logger per trigger would need more memory than the wait
        try:
            async with await self._hook().aclient() as client:
                await wait_until_done(wait, client, log)
                outcome = await client.run(conclude(wait, cancel_on_timeout=self.cancel_on_timeout), log)
        except asyncio.CancelledError:
            if not trigger_has_on_kill():  # before Airflow 3.3
                await self.on_kill()
            raise
        yield TriggerEvent(outcome.to_event())  # type: ignore[no-untyped-call]  # Airflow's

    def scheduler_noticed_at(self, started_at: float) -> float:
        """
        Return the epoch seconds by which the scheduler is taken to have noticed the deferral.

        Nothing in Airflow shows it. On a busy machine everything takes longer, also the start of the trigger.

        :param started_at: When the triggerer started the trigger, in epoch seconds.
        """
        if not self.deferred_at:
            return 0.0
        expected = SCHEDULER_SLOWNESS * (started_at - self.deferred_at)
        return self.deferred_at + min(max(expected, MIN_DEFERRAL), MAX_DEFERRAL)

    async def on_kill(self) -> None:
        """Cancel the execution after a user marked or cleared the task, and only then."""
        ref = self.target.ref
        if ref is None:
            return
        if not self.cancel_on_kill:
            self.log.info(
                "Not cancelling the %s: its task has cancel_on_kill=False, or has not submitted it", ref
            )
            return
        try:
            await _shielded(self._cancel(ref))
        except TimeoutError:
            self.log.error(  # noqa: TRY400 - the traceback of a timeout says no more
                "The %s could not be cancelled within %g s and may still use run minutes", ref, KILL_BUDGET
            )

    async def _cancel(self, ref: ExecutionRef) -> None:
        abandoned: str | None = "its task was marked or cleared"
        if kill_may_be_reassignment():  # until Airflow 3.3
            state = await trigger_task_state(self.task_instance)
            abandoned = why_abandoned(state, ref.execution_id)
        if abandoned is None:
            self.log.info(
                "Not cancelling the %s: its task is %s. If a user has cleared it, its next try cancels the "
                "execution",
                ref,
                state,
            )
        else:
            await self._hook().arun(cancel(ref, abandoned, max_log_lag=MAX_LOG_LAG, retries=2))

    def _hook(self) -> LosantHook:
        return LosantHook(self.losant_conn_id, self.target.application_id)


async def _shielded(work: Coroutine[Any, Any, None]) -> None:
    """
    Finish the work of a kill, however often it is interrupted.

    Airflow repeats the cancellation of a trigger about every second until the trigger is gone, so a
    cancellation that takes Losant longer would never complete.
    """
    job = asyncio.ensure_future(asyncio.wait_for(work, KILL_BUDGET))
    while not job.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([job])
    job.result()


class LosantNotebookEventTrigger(BaseEventTrigger):
    """
    Fire an event for every execution of a notebook that ends, no matter who started it.

    Use it in an ``AssetWatcher``.

    The event's payload is the execution's result, as the operator returns it, including ``execution_id`` and
    ``status``. Events follow each other by five seconds at least, so that each gets a DAG run of its own.
    With ``batch``, the payload is ``{"executions": [...]}`` with the results of all executions that have
    ended since the event before, in the order of their ends; if they have more than 64 KB, the next event has
    the rest.

    Executions that ended before the trigger's first poll are not reported; those that were active
    then are.

    On Airflow 3.3 and later the trigger continues from its checkpoint after a restart of the triggerer,
    including executions that ended in the meantime. The checkpoint is stored with the asset after Airflow has
    acknowledged the event (at-least-once delivery): an event is repeated only if the triggerer is killed
    within the second between the two. On Airflow 3.0 to 3.2 the trigger begins anew with every restart.

    If Losant cannot be reached or denies access, the trigger keeps polling.

    :param notebook_id: ID of the notebook.
    :param application_id: ID of the application; by default the connection's.
    :param statuses: Which ends fire: some of ``completed``, ``errored``, ``timeout``, ``canceled``.
    :param context_contains: Only executions whose template context contains these keys with these values
        fire: a mapping, as of the sensor. None: all.
    :param poll_interval: Time between polls: seconds or a timedelta. Everything in the same triggerer that
        waits for the notebook shares them.
    :param batch: One event for all executions that are found at once, for a notebook of which more than one
        ends every five seconds.
    :param losant_conn_id: The Airflow connection.
    :param queue: Only a triggerer that was started with ``--queues`` and this name runs the trigger
        (Airflow 3.4 and later). None: one that was started without ``--queues``.
    :param stored: Whether Airflow has stored these arguments. Unknown ones, of a newer version of this
        package, are then ignored.
    :raises InvalidArgument: an argument is invalid, or this Airflow has no queues for such triggers.
    :raises LosantConfigError: this Airflow is older than 3.0.
    """

    def __init__(
        self,
        *,
        notebook_id: str,
        application_id: str | None = None,
        statuses: Sequence[str] = (COMPLETED.name,),
        context_contains: Mapping[str, Any] | str | None = None,
        poll_interval: float | timedelta = 60.0,
        batch: bool = False,
        losant_conn_id: str = "losant_default",
        queue: str | None = None,
        stored: bool = False,
        **unknown: Any,
    ) -> None:
        # Also an argument of Airflow's, which reads it from the attribute when it stores the trigger.
        self._queue = {} if queue is None else {"queue": check_queue(queue)}
        super().__init__(**self._queue)  # type: ignore[no-untyped-call]  # Airflow's
        check_unknown(self, unknown, stored=stored)
        self.subscription = Subscription(
            losant_conn_id=parse_argument("losant_conn_id", losant_conn_id),
            application_id=parse_optional("application_id", application_id),
            notebook_id=parse_argument("notebook_id", notebook_id),
            statuses=parse_argument("statuses", statuses),
            poll_interval=parse_argument("poll_interval", poll_interval),
            batch=parse_argument("batch", batch),
            context_contains=parse_context_contains(context_contains),
        )

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores: the class and its arguments, one by one."""
        arguments = asdict(self.subscription) | {"statuses": list(self.subscription.statuses), "stored": True}
        # With the queue, because Airflow replaces a stored trigger only when its arguments have changed.
        return f"{__name__}.{type(self).__name__}", arguments | self._queue

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Fire for what ends from now on: used by Airflow before 3.3."""
        async with aclosing(completions(self.subscription)) as found:
            async for payload, _ in found:
                if payload is not None:
                    yield TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow's

    def shared_stream_key(self) -> Hashable:
        """Return a key of this trigger alone: the stream serves only to acknowledge its events."""
        return (type(self).__name__, self.trigger_id)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Return the producer to which Airflow acknowledges each event."""
        from airflow_provider_losant.triggers.acked_stream import LosantSharedStreamProducer

        return LosantSharedStreamProducer()

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:
        """Give the producer the subscription, and fire for each payload that it yields."""
        async for item in shared_stream:
            if isinstance(item, asyncio.Future):
                item.set_result((self.subscription, asset_stores(self)))
            elif item is not None:
                yield TriggerEvent(item)  # type: ignore[no-untyped-call]  # Airflow's
