# SPDX-License-Identifier: Apache-2.0
"""
The least that polls can cost: a loop that gets and parses the same responses with ``aiohttp`` alone.

It has no retries, no deadline, no log and no shared polls, and returns the first response that shows the end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import aiohttp

from airflow_provider_losant.api.endpoints import COMPACT
from airflow_provider_losant.api.flows.log_reader import FIRST_LIMIT, SINCE_MARGIN
from airflow_provider_losant.api.timestamps import to_milliseconds

if TYPE_CHECKING:
    from tests.benchmarks.records import Address, Case, Run


class BareLoop:
    """Poll the log of a run's notebook until the run has ended."""

    def __init__(self, case: Case, address: Address, run: Run) -> None:
        self._interval = case.interval
        self._address = address
        self._run = run

    async def run(self) -> AsyncIterator[SimpleNamespace]:
        """Yield the entry of the ended run, as the payload of an event."""
        path = f"/applications/{self._address.application_id}/notebooks/{self._run.notebook_id}/logs"
        since = to_milliseconds(self._run.made_at - SINCE_MARGIN)
        query = {"limit": str(FIRST_LIMIT), "since": since, **COMPACT}
        headers = {"Authorization": f"Bearer {self._address.token}", "Accept": "application/json"}
        async with _session() as session:
            await asyncio.sleep(random.uniform(0, self._interval))
            while True:
                url = self._address.url + path
                async with session.get(url, params=query, headers=headers) as response:
                    entries = await response.json()
                for entry in entries:
                    if entry["id"] == self._run.execution_id and entry["status"] == "completed":
                        yield SimpleNamespace(payload=entry)
                        return
                await asyncio.sleep(self._interval * random.uniform(1.0, 1.05))


_sessions: dict[asyncio.AbstractEventLoop, tuple[aiohttp.ClientSession, set[object]]] = {}


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    """Share one session in the event loop, which the last user closes."""
    loop, user = asyncio.get_running_loop(), object()
    if loop not in _sessions:
        _sessions[loop] = aiohttp.ClientSession(), set()
    session, users = _sessions[loop]
    users.add(user)
    try:
        yield session
    finally:
        users.remove(user)
        if not users:
            del _sessions[loop]
            await session.close()
