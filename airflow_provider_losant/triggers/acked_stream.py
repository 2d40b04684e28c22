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
from airflow_provider_losant.triggers.event_stream import CheckpointStore, completions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from airflow.triggers.shared_stream import AdvanceItem

    from airflow_provider_losant.api.flows.completions import Checkpoint
    from airflow_provider_losant.triggers.event_stream import Subscription

SubscriptionAndStores = tuple["Subscription", "Sequence[Any]"]
"""What a trigger subscribes to, and the state stores of its assets."""


class LosantSharedStreamProducer(SharedStreamProducer):
    """
    Yields the event payloads of one trigger, each with the checkpoint to store once Airflow has the event.

    The first item is a future that the trigger resolves with its subscription and stores: Airflow creates the
    producer from the trigger's arguments only, without the stores of its assets.
    """

    def __init__(self) -> None:
        self._store: CheckpointStore | None = None

    async def open_stream(self) -> AsyncIterator[tuple[Any, Checkpoint | None]]:
        """Yield payloads and checkpoints, without end."""
        resolved: asyncio.Future[SubscriptionAndStores] = asyncio.get_running_loop().create_future()
        yield resolved, None
        subscription, stores = await resolved
        self._store = CheckpointStore(subscription, stores)
        async with aclosing(completions(subscription, await self._store.load())) as found:
            async for payload, checkpoint in found:
                yield payload, checkpoint

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Store the latest checkpoint whose event Airflow has; it calls this in the order of the events."""
        checkpoint = None
        for item in batch:
            if item.outcome.failed:
                break
            checkpoint = item.broker_payload or checkpoint
        if self._store is not None and checkpoint is not None:
            await self._store.save(checkpoint)
