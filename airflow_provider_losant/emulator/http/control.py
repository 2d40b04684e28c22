# SPDX-License-Identifier: Apache-2.0
"""The control routes under ``/_emulator/``: the Python interface, for other processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from airflow_provider_losant.emulator.faults import ANY_OPERATION, Fault
from airflow_provider_losant.emulator.http.openapi import describe
from airflow_provider_losant.emulator.requestlog import as_json
from airflow_provider_losant.emulator.state import serializers
from airflow_provider_losant.emulator.state.timeline import Script

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.faults import Faults
    from airflow_provider_losant.emulator.requestlog import RequestLog
    from airflow_provider_losant.emulator.state.backend import Backend

Handler = Callable[[web.Request], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """The handlers of the control routes; each returns the JSON of its response."""

    backend: Backend
    faults: Faults
    log: RequestLog

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/_emulator/requests", _json_handler(self.requests)),
            web.delete("/_emulator/requests", _json_handler(self.clear_requests)),
            web.get("/_emulator/executions/{notebook_id}", _json_handler(self.executions)),
            web.post("/_emulator/script/{notebook_id}", _json_handler(self.script)),
            web.post("/_emulator/inject", _json_handler(self.inject)),
            web.delete("/_emulator/inject", _json_handler(self.clear_faults)),
            web.get("/_emulator/openapi.json", _json_handler(self.openapi)),
            web.get("/_emulator/switches", _json_handler(self.get_switches)),
            web.patch("/_emulator/switches", _json_handler(self.change_switches)),
        ]

    async def requests(self, request: web.Request) -> Any:
        """Return the request log."""
        return [as_json(logged) for logged in self.log.all()]

    async def clear_requests(self, request: web.Request) -> Any:
        """Clear the request log."""
        self.log.clear()
        return {}

    async def executions(self, request: web.Request) -> Any:
        """Return all executions of a notebook, newest first."""
        return serializers.execution_log(self.backend, request.match_info["notebook_id"])

    async def script(self, request: web.Request) -> Any:
        """Set the script for later executions of a notebook; ``null`` removes it."""
        body = await request.json()
        script = None if body is None else Script.from_json(body)
        self.backend.set_script(request.match_info["notebook_id"], script)
        return {}

    async def inject(self, request: web.Request) -> Any:
        """Inject a fault into the next requests."""
        body = await request.json()
        times, operation = int(body.pop("times", 1)), str(body.pop("operation", ANY_OPERATION))
        self.faults.add(operation, Fault.from_json(body), times)
        return {}

    async def clear_faults(self, request: web.Request) -> Any:
        """Remove all faults that no request has consumed yet."""
        self.faults.clear()
        return {}

    async def openapi(self, request: web.Request) -> Any:
        """Return the OpenAPI description of the API."""
        return describe(f"{request.scheme}://{request.host}")

    async def get_switches(self, request: web.Request) -> Any:
        """Return all switches."""
        return self.backend.switches.as_json()

    async def change_switches(self, request: web.Request) -> Any:
        """Change the switches in the body; returns all switches."""
        self.backend.switches.change(await request.json())
        return self.backend.switches.as_json()


def _json_handler(handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Convert the result of a handler to a response, and its errors to 404 or 400."""

    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(await handler(request))
        except KeyError as error:
            return web.json_response({"message": f"not found: {error.args[0]}"}, status=404)
        except (ValueError, TypeError, AttributeError) as error:
            return web.json_response({"message": str(error)}, status=400)

    return handle
