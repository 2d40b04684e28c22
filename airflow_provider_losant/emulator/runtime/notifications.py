# SPDX-License-Identifier: Apache-2.0
"""Reports the end of executions and of exports, to their ``callbackUrl`` and by e-mail."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from airflow_provider_losant.emulator.runtime.exports import ARCHIVE, make_archive
from airflow_provider_losant.emulator.state import serializers

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.runtime.mail import Mailer
    from airflow_provider_losant.emulator.state.backend import Backend
    from airflow_provider_losant.emulator.state.model import Export
    from airflow_provider_losant.emulator.state.timeline import Execution

POLL_INTERVAL: Final = 0.05
TIMEOUT: Final = ClientTimeout(total=10)

_log = logging.getLogger(__name__)


class Notifications:
    """
    Watches executions, and exports input data, if their end is to be reported.

    An export without a ``callbackUrl`` and without an ``email`` is not made, as nothing would refer to it.

    :param mailer: sends the e-mails; ``None`` if none are to be sent.
    :param app_url: returns the URL of the emulator's pages.
    :param repeat_samples: whether samples of device data repeat.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        mailer: Mailer | None,
        app_url: Callable[[], str],
        repeat_samples: bool = False,
    ) -> None:
        self._backend = backend
        self._mailer = mailer
        self._app_url = app_url
        self._repeat_samples = repeat_samples
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Start to watch the executions, and to make the exports, that were queued since the last call."""
        backend = self._backend
        with backend.lock:
            while backend.pending_notifications:
                execution = backend.pending_notifications.popleft()
                if self._is_reported(execution):
                    self._start(self._report_end(execution))
            while backend.pending_exports:
                export = backend.pending_exports.popleft()
                if self._is_reported(export.execution):
                    self._start(self._report_export(export))

    async def stop(self) -> None:
        """Stop watching; what is still pending is not delivered."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _is_reported(self, execution: Execution) -> bool:
        return self._has_callback(execution) or (execution.email is not None and self._mailer is not None)

    def _has_callback(self, execution: Execution) -> bool:
        return execution.callback_url is not None and self._backend.switches.callbacks

    async def _report_end(self, execution: Execution) -> None:
        result = await self._wait_for_end(execution)
        if result is None:
            return
        entry, notebook = result["execution"], result["notebook"]
        path = f"/applications/{notebook['applicationId']}/notebooks/{notebook['id']}"
        lines = [
            f"Execution: {entry['id']}",
            f"Status: {entry['status']}",
            *(f"Error: {error['name']}: {error['message']}" for error in entry["executionErrors"]),
            # Names only: a signed URL gives access to the file, and it expires.
            *(f"Output: {name}" for name in entry["outputInfo"]),
            f"Notebook: {self._app_url()}{path}",
        ]
        await self._deliver(execution, result, f"Notebook {notebook['name']}: {entry['status']}", lines)

    async def _report_export(self, export: Export) -> None:
        backend, execution, notebook = self._backend, export.execution, export.notebook
        folder, tables = backend.export_folder(export.id), backend.tables
        try:
            await asyncio.to_thread(
                make_archive, notebook, execution, folder, tables, repeat_samples=self._repeat_samples
            )
        except Exception as error:  # noqa: BLE001  # whatever is wrong with a sample ends this export only
            _log.warning("The input data of the notebook %r could not be exported: %s", notebook.name, error)
            return
        url = backend.signed_url(f"/{export.id}/export/{ARCHIVE}", backend.clock())
        lines = [f"Job: {export.id}", f"Download: {url}"]
        subject = f"Input data of notebook {notebook.name}"
        await self._deliver(execution, {"downloadUrl": url}, subject, lines)

    async def _deliver(
        self, execution: Execution, body: dict[str, Any], subject: str, lines: Sequence[str]
    ) -> None:
        """Send the body to the ``callbackUrl`` and the lines to the ``email``, whichever were given."""
        if self._has_callback(execution):
            await _post(str(execution.callback_url), body)
        if execution.email is not None and self._mailer is not None:
            await self._mailer.send(execution.email, subject, lines)

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


async def _post(url: str, body: dict[str, Any]) -> None:
    # Losant documents no retries of a callback, so there are none.
    with contextlib.suppress(ClientError, TimeoutError, ValueError):
        async with ClientSession(timeout=TIMEOUT) as client:
            await client.post(url, json=body)
