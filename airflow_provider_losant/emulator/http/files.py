# SPDX-License-Identifier: Apache-2.0
"""The files port: serves input and output files to requests with a valid signature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiohttp import web

from airflow_provider_losant.emulator.faults import FILES, Faults
from airflow_provider_losant.emulator.http.wire import Response
from airflow_provider_losant.emulator.state.model import content_type

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.http.fault_injector import FaultInjector
    from airflow_provider_losant.emulator.state.backend import Backend

_KINDS: Final = ("inputs", "outputs", "export")


class Files:
    """
    Serves the files port.

    :param backend: the state of the emulator.
    :param faults: the injected faults.
    :param injector: applies the faults.
    """

    def __init__(self, backend: Backend, faults: Faults, injector: FaultInjector) -> None:
        self._backend = backend
        self._faults = faults
        self._injector = injector

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Send a file, apply an injected fault, or respond with 403 or 404 as object stores do."""
        query = request.query
        is_signed = self._backend.signer.verify(
            request.rel_url.raw_path,
            query.get("expires", ""),
            query.get("signature", ""),
            self._backend.clock(),
        )
        # A client must not send its Losant token to the file host: that leaks the token.
        if request.method not in ("GET", "HEAD") or not is_signed or "Authorization" in request.headers:
            return _error(403, "AccessDenied")
        path = self._path(request.path.strip("/").split("/"))
        if path is None or not path.is_file():
            return _error(404, "NoSuchKey")
        fault = self._faults.take(FILES)
        if fault is None:
            return web.FileResponse(path, headers={"Content-Type": content_type(path.name)})
        response = Response(status=200, content=path.read_bytes(), content_type=content_type(path.name))
        changed = await self._injector.apply(request, fault, lambda: response)
        return web.Response() if changed is None else changed

    def _path(self, segments: list[str]) -> Path | None:
        """Return the path of a file; ``None`` if the segments name none."""
        entity_id, kind, *name = segments
        if kind == "notebook":
            return self._backend.notebook_path(entity_id)
        if kind not in _KINDS or not name or ".." in name:
            return None
        if kind == "export":
            return self._backend.export_folder(entity_id).joinpath(*name)
        return self._backend.execution_folder(entity_id).joinpath(kind, *name)


def _error(status: int, code: str) -> web.Response:
    return web.Response(
        status=status, text=f"<Error><Code>{code}</Code></Error>", content_type="application/xml"
    )
