# SPDX-License-Identifier: Apache-2.0
"""The control routes under ``/_emulator/``: the Python interface, for other processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from airflow_provider_losant.emulator.faults import ANY_OPERATION, Fault
from airflow_provider_losant.emulator.http.openapi import describe
from airflow_provider_losant.emulator.requestlog import as_json
from airflow_provider_losant.emulator.state.timeline import Script

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.server import Emulator

Handle = Callable[[web.Request], Awaitable[Any]]


class Control:
    """Lets another process look at the emulator and direct it."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def routes(self) -> list[web.RouteDef]:
        """List the routes."""
        return [
            web.get("/_emulator/requests", _answered(self.requests)),
            web.delete("/_emulator/requests", _answered(self.clear)),
            web.get("/_emulator/executions/{notebook_id}", _answered(self.executions)),
            web.post("/_emulator/script/{notebook_id}", _answered(self.script)),
            web.post("/_emulator/inject", _answered(self.inject)),
            web.delete("/_emulator/inject", _answered(self.clear_faults)),
            web.get("/_emulator/openapi.json", _answered(self.openapi)),
            web.get("/_emulator/switches", _answered(self.switches)),
            web.patch("/_emulator/switches", _answered(self.switches)),
        ]

    async def requests(self, request: web.Request) -> Any:
        """Show what Losant saw."""
        return [as_json(seen) for seen in self._emulator.requests]

    async def clear(self, request: web.Request) -> Any:
        """Forget what Losant saw."""
        self._emulator.clear_requests()
        return {}

    async def executions(self, request: web.Request) -> Any:
        """Show all executions of a notebook."""
        return self._emulator.executions(request.match_info["notebook_id"])

    async def script(self, request: web.Request) -> Any:
        """Let a script decide how later executions go; ``null`` lets them run for real."""
        told = await request.json()
        script = None if told is None else Script.from_json(told)
        self._emulator.script(request.match_info["notebook_id"], script)
        return {}

    async def inject(self, request: web.Request) -> Any:
        """Order a fault."""
        told = await request.json()
        times, operation = int(told.pop("times", 1)), str(told.pop("operation", ANY_OPERATION))
        self._emulator.inject(operation, Fault.from_json(told), times=times)
        return {}

    async def clear_faults(self, request: web.Request) -> Any:
        """Forget the faults that have met no request yet."""
        self._emulator.clear_faults()
        return {}

    async def openapi(self, request: web.Request) -> Any:
        """Describe the API in OpenAPI."""
        return describe(self._emulator.url)

    async def switches(self, request: web.Request) -> Any:
        """Show the switches, after changing those that the body names."""
        if request.method == "PATCH":
            self._emulator.switches.change(await request.json())
        return self._emulator.switches.as_json()


def _answered(handle: Handle) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        try:
            return web.json_response(await handle(request))
        except KeyError as unknown:
            return web.json_response({"message": f"there is no {unknown.args[0]}"}, status=404)
        except (ValueError, TypeError, AttributeError) as wrong:
            return web.json_response({"message": str(wrong)}, status=400)

    return answer
