# SPDX-License-Identifier: Apache-2.0
"""Every execution of a notebook that ends, as an event; and where is kept which of them have been told."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from airflow_provider_losant._compat import AirflowException, asset_stores
from airflow_provider_losant.api.flows.completions import Harvest, Progress
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.triggers.shared_poll import gather

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from airflow_provider_losant.triggers.notebook import LosantNotebookEventTrigger

Told = tuple[dict[str, Any] | None, Progress]
"""An event's payload, None if there is only something to remember; and what has been told with it."""

APART = 5.0
"""
Seconds between events.

Airflow's scheduler makes one DAG run of all events that it finds, and may leave the later ones among them
for the next run: each is to get its own.
"""

_log = logging.getLogger(__name__)


async def endings(
    trigger: LosantNotebookEventTrigger, progress: Progress | None = None
) -> AsyncGenerator[Told, None]:
    """
    Yield what a trigger has to tell, for ever.

    :param progress: What has been told already; None begins anew.
    """
    hook = LosantHook(trigger.losant_conn_id, trigger.application_id)
    problem = ""
    while True:
        try:
            async with aclosing(_endings(trigger, hook, progress)) as found:
                async for payload, told in found:
                    yield payload, told
                    progress, problem = told, ""
                    if payload is not None:
                        await asyncio.sleep(APART)
        except AirflowException as error:
            # Airflow would start the trigger again within a second, and again, and again.
            if problem != (problem := str(error)):
                _log.error("Notebook %s is not watched: %s", trigger.notebook_id, problem)
            await asyncio.sleep(trigger.poll_interval)


async def _endings(
    trigger: LosantNotebookEventTrigger, hook: LosantHook, progress: Progress | None
) -> AsyncGenerator[Told, None]:
    await hook.aload_settings()
    async with await hook.aclient() as client:
        harvest = Harvest(
            hook.resolve_application_id(),
            trigger.notebook_id,
            statuses=trigger.statuses,
            poll_interval=trigger.poll_interval,
            now=time.time(),
            progress=progress,
        )
        async with aclosing(gather(harvest, client, _log.log)) as found:
            async for news in found:
                ended = news.execution
                if ended is None:
                    yield None, news.progress
                    continue
                ids = {name: getattr(ended.ref, name) for name in ended.ref.__slots__}
                yield ended.to_result() | {"url": client.settings.notebook_url(**ids)}, news.progress


class Memory:
    """
    What a trigger has told, kept with the assets that it watches for, where Airflow has a place for it.

    :param trigger: Whose it is. Another that watches the same notebook for the same asset in another way
        has its own.
    """

    def __init__(self, trigger: LosantNotebookEventTrigger) -> None:
        self._stores = asset_stores(trigger)
        application, statuses = trigger.application_id or "", "+".join(sorted(trigger.statuses))
        self._key = f"losant_told/{trigger.losant_conn_id}/{application}/{trigger.notebook_id}/{statuses}"

    async def recall(self) -> Progress | None:
        """Return what has been told; None if that is nothing, or unknown."""
        for store in self._stores:
            if (kept := await store.aget(self._key)) is not None:
                return Progress.from_json(kept)
        return None

    async def remember(self, told: Progress) -> None:
        """Keep what has been told."""
        for store in self._stores:
            await store.aset(self._key, told.to_json())
