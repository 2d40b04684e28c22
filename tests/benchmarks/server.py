# SPDX-License-Identifier: Apache-2.0
"""
The server, in a process of its own: ``python -m tests.benchmarks.server FOLDER [--plain]``.

It is the emulator, whose executions end when the benchmark says so. The same process answers for the same
runs in the formats of dbt Cloud's and Databricks' APIs, so that all providers are measured against the same
server.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.emulator.state.identity import object_id
from airflow_provider_losant.emulator.state.timeline import Execution, File
from tests.benchmarks.records import Address, Run
from tests.support.http_stub import self_signed

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

CONTROL = "/_benchmark/"
# As large as the context that the operator sends, and as a small report.
CONTEXT = json.dumps(
    {
        "site": "hamburg-harbour",
        "airflow": {
            "dag_id": "losant_site_energy_report",
            "task_id": "report",
            "run_id": "scheduled__2026-01-01T00:00:00+00:00",
            "map_index": -1,
            "try_number": 1,
            "id": "0123456789abcdef0123.2",
            "sweep": True,
        },
    }
)
OUTPUTS = {
    "result.html": File(size=282_114, content_type="text/html"),
    "daily.csv": File(size=1_942, content_type="text/csv"),
}
RUNNING = Script(notebook=86_400)


class BenchmarkServer(Emulator):
    """
    Serve runs that end on command, and count the requests.

    :param folder: For its certificate; None serves plain HTTP.
    """

    def __init__(self, folder: Path | None) -> None:
        tls, certificate = (None, "") if folder is None else self_signed(folder)
        super().__init__(tls=tls)
        self._certificate = certificate
        self._runs: list[tuple[Run, float]] = []
        self._reset_counts()

    @property
    def address(self) -> Address:
        return Address(
            url=self.url,
            token=self.token,
            application_id=self.application_id,
            ca=str(self._certificate),
        )

    def _api(self) -> web.Application:
        served = super()._api()
        served.middlewares.append(self._count)
        served.add_routes(
            [
                web.post(CONTROL + "runs", self._make_runs),
                web.post(CONTROL + "begin", self._begin),
                web.get(CONTROL + "counts", self._counts),
                web.get("/api/v2/accounts/1/runs/{number}/", self._dbt_cloud),
                web.get("/api/2.2/jobs/runs/get", self._databricks),
            ]
        )
        return served

    @web.middleware
    async def _count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if not request.path.startswith(CONTROL):
            self._requests += 1
            self._connections.add(request.protocol)
            self._bytes += response.content_length or 0
        return response

    def _reset_counts(self) -> None:
        self.clear_requests()
        self._requests = self._bytes = 0
        self._connections: set[object] = set()
        self._cpu, self._started = time.process_time(), time.monotonic()

    async def _make_runs(self, request: web.Request) -> web.Response:
        """Make runs that do not end yet: one for each of the seconds, after which it will end."""
        wanted = await request.json()
        seconds: Sequence[float] = wanted["seconds"]
        notebooks = [self.add_notebook() for _ in (seconds if wanted["is_spread"] else seconds[:1])]
        if not wanted["is_spread"]:
            notebooks *= len(seconds)
        self._runs = [
            (self._make_run(number, notebook), at)
            for number, (notebook, at) in enumerate(zip(notebooks, seconds, strict=True))
        ]
        return web.json_response([asdict(run) for run, _ in self._runs])

    def _make_run(self, number: int, notebook_id: str) -> Run:
        now = round(self.backend.clock(), 3)
        made = Execution(
            id=object_id(now),
            notebook_id=notebook_id,
            application_id=self.application_id,
            queued_at=now,
            relative_to=now,
            max_minutes=5,
            image_version="v4",
            source_id=object_id(now),
            template_context=CONTEXT,
            outputs=OUTPUTS,
        )
        self.backend.put(made.apply(RUNNING))
        return Run(number=number, notebook_id=notebook_id, execution_id=made.id, made_at=now)

    async def _begin(self, request: web.Request) -> web.Response:
        """Let the seconds of all runs begin now, and reset the counts."""
        now = self.backend.clock()
        for run, at in self._runs:
            line = self._execution(run.number).apply(Script(notebook=now + at - run.made_at))
            self.backend.put(line)
        self._reset_counts()
        return web.json_response({"now": now})

    async def _counts(self, request: web.Request) -> web.Response:
        """Return the counts."""
        return web.json_response(
            {
                "requests": self._requests,
                "connections": len(self._connections),
                "megabytes": self._bytes / 1e6,
                "load": (time.process_time() - self._cpu) / (time.monotonic() - self._started),
            }
        )

    async def _dbt_cloud(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        status = 10 if self._is_over(number) else 3
        return web.json_response({"status": {"code": 200}, "data": {"id": number, "status": status}})

    async def _databricks(self, request: web.Request) -> web.Response:
        number = int((await request.json())["run_id"])
        state = {"life_cycle_state": "RUNNING"}
        if self._is_over(number):
            state = {"life_cycle_state": "TERMINATED", "result_state": "SUCCESS"}
        return web.json_response({"run_id": number, "state": state})

    def _is_over(self, number: int) -> bool:
        return self._execution(number).is_over(self.backend.clock())

    def _execution(self, number: int) -> Execution:
        run, _ = self._runs[number]
        found = self.backend.execution(run.notebook_id, run.execution_id)
        if found is None:
            raise LookupError(f"there is no run {number}")
        return found


def main(arguments: Sequence[str]) -> None:
    """Serve until standard input ends, so that the server ends with the benchmark."""
    folder, *options = arguments
    with BenchmarkServer(None if "--plain" in options else Path(folder)) as served:
        print(json.dumps(asdict(served.address)), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
