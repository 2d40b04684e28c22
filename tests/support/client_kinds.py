# SPDX-License-Identifier: Apache-2.0
"""Both HTTP clients, requests and aiohttp, behind one interface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_losant.api.http.async_client import SharedClient
from airflow_provider_losant.api.http.client import Client

if TYPE_CHECKING:
    from airflow_provider_losant.api.endpoints import Call
    from airflow_provider_losant.api.flows.steps import Flow
    from airflow_provider_losant.api.settings import Settings

KINDS = ("requests", "aiohttp")


@dataclass
class Driver:
    """
    Carries out flows with one of the two clients.

    :param kind: One of :data:`KINDS`.
    """

    kind: str
    log_lines: list[str] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)

    def run(self, settings: Settings, flow: Flow[Any], refresh: Callable[[], Settings] | None = None) -> Any:
        if self.kind == "requests":
            client = Client(settings, self._log, refresh)
            try:
                return client.run(flow)
            finally:
                client.close()

        async def refresh_async() -> Settings:
            assert refresh is not None
            return refresh()

        async def main() -> Any:
            try:
                async with SharedClient(settings, refresh and refresh_async) as client:
                    return await client.run(flow, self._log)
            finally:
                await _end_connections()

        return asyncio.run(main())

    def call(self, settings: Settings, call: Call[Any], refresh: Callable[[], Settings] | None = None) -> Any:
        return self.run(settings, steps(call), refresh)

    def _log(self, level: int, text: str, *arguments: object) -> None:
        self.log_lines.append(text % arguments)
        self.levels.append(level)


async def _end_connections() -> None:
    """
    Abort connections whose TLS is still shutting down, which takes as long as the server likes.

    In a triggerer the event loop continues meanwhile; here it would end before them, with a ResourceWarning.
    """
    transports: Any = getattr(asyncio.get_running_loop(), "_transports", {})
    for transport in list(transports.values()):
        transport.abort()
    await asyncio.sleep(0)


def steps(*yielded: Any) -> Generator[Any, Any, Any]:
    """Return a flow that yields these steps; its result is that of the last one."""
    result = None
    for step in yielded:
        result = yield step
    return result
