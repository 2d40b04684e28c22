# SPDX-License-Identifier: Apache-2.0
"""Callbacks: when an execution ends, its ``callbackUrl`` is told once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from airflow_provider_losant.emulator.state.serializers import notebook

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.backend import Backend
    from airflow_provider_losant.emulator.state.timeline import Execution

LOOK_EVERY: Final = 0.05
ANSWER_WITHIN: Final = ClientTimeout(total=10)


class Callbacks:
    """Calls whoever wants to know of the end of an execution."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._tasks: set[asyncio.Task[None]] = set()

    def look(self) -> None:
        """Begin to watch the executions that have been queued with a callback."""
        with self._backend.lock:
            while self._backend.pending_callbacks:
                task = asyncio.create_task(self._tell(self._backend.pending_callbacks.popleft()))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Stop watching; nobody is told any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _tell(self, execution: Execution) -> None:
        told = await self._news(execution)
        if told is None:
            return
        # Nothing is known of retries, so there are none: a callback is a hint and no promise.
        with contextlib.suppress(ClientError, TimeoutError, ValueError):
            async with ClientSession(timeout=ANSWER_WITHIN) as client:
                await client.post(str(execution.callback_url), json=told)

    async def _news(self, execution: Execution) -> dict[str, Any] | None:
        """Wait for the end of an execution, and tell of it; of a deleted one there is nothing to tell."""
        backend = self._backend
        while True:
            with backend.lock:
                current = backend.execution(execution.notebook_id, execution.id)
                if current is None:
                    return None
                if current.is_over(backend.clock()):
                    return {
                        "success": current.ending == "completed",
                        "notebook": notebook(backend, backend.notebooks[current.notebook_id], links=False),
                        "execution": backend.show(current),
                    }
            await asyncio.sleep(LOOK_EVERY)
