# SPDX-License-Identifier: Apache-2.0
"""
One poll for all triggers of an event loop that wait for the same notebook over the same connection.

Losant has no endpoint for a single execution, but one response with a notebook's log serves all of them.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from math import inf
from typing import TYPE_CHECKING, ClassVar

from airflow_provider_losant.api.flows import polling
from airflow_provider_losant.api.flows.poll_schedule import PollSchedule
from airflow_provider_losant.metrics import in_triggerer

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.completions import CompletionFeed, Delivery
    from airflow_provider_losant.api.flows.poll_schedule import Subscriber
    from airflow_provider_losant.api.flows.steps import Clock, Log
    from airflow_provider_losant.api.flows.wait import Wait
    from airflow_provider_losant.api.http.async_client import AsyncClient

GOLDEN_RATIO = 0.618033988749895
"""Its multiples, modulo 1, spread evenly over an interval, however many there will be."""

CLOCK_TOLERANCE = 1.0
"""Seconds for which a poll waits for the wall clock, which may be slower than the loop's."""

_log = logging.getLogger(__name__)
_clock: Clock = time.time
_polls: dict[AsyncClient, dict[tuple[str, str], SharedPoll]] = {}


async def wait_until_done(wait: Wait, client: AsyncClient, log: Log) -> None:
    """
    Return when a wait is over, sharing its polls with everything else that waits for the notebook.

    :param client: Sends the requests; waits that have the same client share a poll.
    :param log: Gets the wait's lines for the task log: a logger's ``log``.
    """
    poll = SharedPoll.of(wait, client)
    try:
        while wait.demand is not None:
            await poll.wait_for_news(wait, log)
    finally:
        poll.leave(wait)


async def stream_completions(
    feed: CompletionFeed, client: AsyncClient, log: Log
) -> AsyncGenerator[Delivery, None]:
    """
    Yield a feed's deliveries without end, sharing its polls with all that wait for the notebook.

    :param client: As for :func:`wait_until_done`.
    :param log: As for :func:`wait_until_done`.
    """
    poll = SharedPoll.of(feed, client)
    try:
        while True:
            # More may arrive while the consumer handles one.
            while (delivery := feed.next_delivery()) is not None:
                yield delivery
                del delivery  # the consumer may need hours for the rest
            await poll.wait_for_news(feed, log)
    finally:
        poll.leave(feed)


class SharedPoll:
    """
    The polls of one notebook's log, and their subscribers.

    Polling runs in an asyncio task of its own, in an empty context, so that a wait that ends, is cancelled
    or fails does not affect the others. Each subscriber's lines are logged in that subscriber's own task.

    :cvar waits: The subscribers of all polls of this process.
    """

    waits: ClassVar[int] = 0

    def __init__(self, client: AsyncClient, key: tuple[str, str], phase: float) -> None:
        self._client = client
        self._key = key
        self._phase = phase
        self._schedule = PollSchedule(*key)
        # Futures rather than events, because there may be thousands.
        self._wakeups: dict[Subscriber, asyncio.Future[None]] = {}
        self._is_awake = asyncio.Event()
        self._task = asyncio.create_task(self._poll_forever(), context=contextvars.Context())

    @classmethod
    def of(cls, subscriber: Subscriber, client: AsyncClient) -> SharedPoll:
        """Join the poll of a subscriber's notebook; start it if there is none."""
        key = (subscriber.application_id, subscriber.notebook_id)
        polls = _polls.setdefault(client, {})
        if key not in polls:
            polls[key] = cls(client, key, (len(polls) + 1) * GOLDEN_RATIO % 1.0)
        poll = polls[key]
        poll.join(subscriber)
        return poll

    async def wait_for_news(self, subscriber: Subscriber, log: Log) -> None:
        """Wait until a poll has brought something new for a subscriber, and log its lines."""
        wakeup = self._wakeups[subscriber]
        if wakeup.done():
            wakeup = self._wakeups[subscriber] = asyncio.get_running_loop().create_future()
        if self._task.done():
            self._task.result()  # raises an unexpected error in all that wait
        await wakeup
        for line in subscriber.drain_logs():
            log(line.level, "%s", line.text)

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a subscriber; without the last one, polling stops."""
        self._schedule.leave(subscriber)
        del self._wakeups[subscriber]
        SharedPoll.waits -= 1
        if self._task.done() or not self._wakeups:
            self._close()
            self._task.cancel()

    def join(self, subscriber: Subscriber) -> None:
        """Add a subscriber."""
        self._wakeups[subscriber] = asyncio.get_running_loop().create_future()
        SharedPoll.waits += 1
        demand = subscriber.demand
        # After a restart of the triggerer every poll is overdue at once: notebooks take turns within an
        # interval, and the other waits for this notebook have time to join.
        turn = 0.0 if demand is None or demand.is_immediate else self._phase * demand.interval
        self._schedule.join(subscriber, _clock(), turn)
        self._is_awake.set()

    def _close(self) -> None:
        """Leave the registry, so that later subscribers start a new poll."""
        polls = _polls.get(self._client, {})
        if polls.get(self._key) is self:
            del polls[self._key]
        if not polls:
            _polls.pop(self._client, None)
        _report_waits()

    async def _poll_forever(self) -> None:
        try:
            while True:
                await self._until_due()
                _report_waits()
                await self._wake_all(
                    await self._client.run(polling.poll_once(self._schedule, _clock), _log.log)
                )
        finally:
            self._close()
            for subscriber in self._wakeups:
                self._wake(subscriber)

    async def _wake_all(self, subscribers: Sequence[Subscriber]) -> None:
        for number, subscriber in enumerate(subscribers, 1):
            self._wake(subscriber)
            if number % polling.BATCH_SIZE == 0:
                await asyncio.sleep(0)

    def _wake(self, subscriber: Subscriber) -> None:
        wakeup = self._wakeups.get(subscriber)
        if wakeup is not None and not wakeup.done():
            wakeup.set_result(None)

    async def _until_due(self) -> None:
        """Sleep until the next poll, which a new subscriber may want sooner."""
        loop = asyncio.get_running_loop()
        due = inf
        while (delay := self._schedule.delay(_clock())) > 0:
            # By the loop's clock, because the wall clock may be set back while this sleeps.
            due = min(due, loop.time() + delay)
            if due <= loop.time():
                await asyncio.sleep(min(delay, CLOCK_TOLERANCE))
                return
            self._is_awake.clear()
            # Not asyncio.timeout, which costs more than the rest of this.
            timer = loop.call_at(due, self._is_awake.set) if due < inf else None
            try:
                await self._is_awake.wait()
            finally:
                if timer is not None:
                    timer.cancel()


def _report_waits() -> None:
    """Set the gauge of everything that waits in this triggerer, with every poll and when a poll ends."""
    in_triggerer().gauge("waits", SharedPoll.waits)
