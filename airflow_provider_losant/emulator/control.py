# SPDX-License-Identifier: Apache-2.0
"""The control routes under ``/_emulator/``: the Python interface, for other processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from airflow_provider_losant.emulator.faults import Fault
from airflow_provider_losant.emulator.requestlog import as_json
from airflow_provider_losant.emulator.timeline import Script

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.server import Emulator

Control = Callable[[web.Request], Any]


def routes(emulator: Emulator) -> list[web.RouteDef]:
    """Make the routes through which another process looks at the emulator and directs it."""

    async def requests(request: web.Request) -> Any:
        return [as_json(seen) for seen in emulator.requests]

    async def clear(request: web.Request) -> Any:
        emulator.clear_requests()
        return {}

    async def executions(request: web.Request) -> Any:
        return emulator.executions(request.match_info["notebook_id"])

    async def script(request: web.Request) -> Any:
        emulator.script(request.match_info["notebook_id"], Script.from_json(await request.json()))
        return {}

    async def inject(request: web.Request) -> Any:
        wanted = await request.json()
        times, operation = int(wanted.pop("times", 1)), str(wanted.pop("operation", "*"))
        emulator.inject(operation, Fault.from_json(wanted), times=times)
        return {}

    async def switches(request: web.Request) -> Any:
        if request.method == "PATCH":
            emulator.switches.change(await request.json())
        return emulator.switches.as_json()

    def answered(control: Control) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            try:
                return web.json_response(await control(request))
            except KeyError as unknown:
                return web.json_response({"message": f"there is no {unknown.args[0]}"}, status=404)
            except (ValueError, TypeError, AttributeError) as wrong:
                return web.json_response({"message": str(wrong)}, status=400)

        return handle

    return [
        web.get("/_emulator/requests", answered(requests)),
        web.delete("/_emulator/requests", answered(clear)),
        web.get("/_emulator/executions/{notebook_id}", answered(executions)),
        web.post("/_emulator/script/{notebook_id}", answered(script)),
        web.post("/_emulator/inject", answered(inject)),
        web.get("/_emulator/switches", answered(switches)),
        web.patch("/_emulator/switches", answered(switches)),
    ]
