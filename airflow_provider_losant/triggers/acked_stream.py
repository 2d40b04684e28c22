# SPDX-License-Identifier: Apache-2.0
"""
Remember that an event has been told only when Airflow has it (Airflow 3.3).

Airflow confirms it to none but the producer of a shared stream, so there is one for each trigger. What is
shared between triggers is the poll below it, which also answers the waits of operators and sensors.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import SharedStreamProducer
from airflow_provider_losant.triggers.event_stream import Memory, endings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from airflow.triggers.shared_stream import AdvanceItem

    from airflow_provider_losant.api.flows.completions import Progress
    from airflow_provider_losant.triggers.notebook import LosantNotebookEventTrigger


class ConfirmedEvents(SharedStreamProducer):
    """
    Yields what one trigger has to tell, each with what has been told once Airflow has it.

    The trigger is asked for first, by a future among the events: Airflow makes the producer of the
    trigger's arguments only, without the stores of its assets.
    """

    def __init__(self) -> None:
        self._memory: Memory | None = None

    async def open_stream(self) -> AsyncIterator[tuple[Any, Progress | None]]:
        """Yield payloads for ever."""
        asked: asyncio.Future[LosantNotebookEventTrigger] = asyncio.get_running_loop().create_future()
        yield asked, None
        trigger = await asked
        self._memory = Memory(trigger)
        async with aclosing(endings(trigger, await self._memory.recall())) as found:
            async for payload, told in found:
                yield payload, told

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Remember what Airflow has; it calls in the order of the events."""
        told = None
        for item in batch:
            if item.outcome.failed:
                break
            told = item.broker_payload or told
        if self._memory is not None and told is not None:
            await self._memory.remember(told)
