# SPDX-License-Identifier: Apache-2.0
"""
Store a checkpoint only after Airflow has acknowledged the event (Airflow 3.3).

Airflow acknowledges events only to the producer of a shared stream, so each trigger has a stream of its own.
What triggers share is the poll below it, which also serves the waits of operators and sensors.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import SharedStreamProducer
from airflow_provider_losant.api.flows.completions import Checkpoint
from airflow_provider_losant.triggers.event_stream import CheckpointStore, completions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from airflow.triggers.shared_stream import AdvanceItem

    from airflow_provider_losant.api.flows.completions import Progress
    from airflow_provider_losant.triggers.event_stream import Subscription

SubscriptionAndStores = tuple["Subscription", "Sequence[Any]"]
"""What a trigger subscribes to, and the state stores of its assets."""


class LosantSharedStreamProducer(SharedStreamProducer):
    """
    Yields the event payloads of one trigger, each with what it changes in the checkpoint.

    Only what Airflow has acknowledged changes the checkpoint that is stored.

    The first item is a future that the trigger resolves with its subscription and stores: Airflow creates the
    producer from the trigger's arguments only, without the stores of its assets.
    """

    def __init__(self) -> None:
        self._store: CheckpointStore | None = None
        self._acknowledged = Checkpoint()
        self._has_failed = False

    async def open_stream(self) -> AsyncIterator[tuple[Any, Progress | None]]:
        """Yield payloads and what they change in the checkpoint, without end."""
        resolved: asyncio.Future[SubscriptionAndStores] = asyncio.get_running_loop().create_future()
        yield resolved, None
        subscription, stores = await resolved
        self._store = CheckpointStore(subscription, stores)
        checkpoint = await self._store.load()
        self._acknowledged = checkpoint or Checkpoint()
        async with aclosing(completions(subscription, checkpoint)) as found:
            async for payload, progress in found:
                yield payload, progress

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Store the checkpoint of all events that Airflow has; it calls this in the order of the events."""
        has_progress = False
        for item in batch:
            # What follows an event that Airflow does not have is not stored either, so it is delivered again.
            self._has_failed = self._has_failed or item.outcome.failed > 0
            if not self._has_failed and item.broker_payload is not None:
                self._acknowledged.advance(item.broker_payload)
                has_progress = True
        if self._store is not None and has_progress:
            await self._store.save(self._acknowledged)
