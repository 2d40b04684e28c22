# SPDX-License-Identifier: Apache-2.0
"""Sends a request to the ``callbackUrl`` of an execution when it has ended."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from airflow_provider_losant.emulator.state import serializers

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.backend import Backend
    from airflow_provider_losant.emulator.state.timeline import Execution

POLL_INTERVAL: Final = 0.05
TIMEOUT: Final = ClientTimeout(total=10)


class Callbacks:
    """Watches the executions that have a ``callbackUrl`` and delivers their callbacks."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Start to watch the executions that were queued with a ``callbackUrl`` since the last call."""
        with self._backend.lock:
            while self._backend.pending_callbacks:
                task = asyncio.create_task(self._deliver(self._backend.pending_callbacks.popleft()))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Stop watching; callbacks that are still pending are not delivered."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, execution: Execution) -> None:
        body = await self._wait_for_end(execution)
        if body is None:
            return
        # Losant documents no retries of a callback, so there are none.
        with contextlib.suppress(ClientError, TimeoutError, ValueError):
            async with ClientSession(timeout=TIMEOUT) as client:
                await client.post(str(execution.callback_url), json=body)

    async def _wait_for_end(self, execution: Execution) -> dict[str, Any] | None:
        """Wait until an execution has ended and return the callback's body; ``None`` if it was deleted."""
        backend = self._backend
        while True:
            with backend.lock:
                current = backend.execution(execution.notebook_id, execution.id)
                if current is None:
                    return None
                if current.is_over(backend.clock()):
                    notebook = backend.notebooks[current.notebook_id]
                    return {
                        "success": current.ending == "completed",
                        "notebook": serializers.notebook(backend, notebook, include_links=False),
                        "execution": serializers.execution(backend, current),
                    }
            await asyncio.sleep(POLL_INTERVAL)
