# SPDX-License-Identifier: Apache-2.0
"""The files port: serves input and result files to whoever holds a signed address that has not expired."""

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

_KINDS: Final = ("inputs", "outputs")


class Files:
    """Serves the files port."""

    def __init__(self, backend: Backend, faults: Faults, injector: FaultInjector) -> None:
        self._backend = backend
        self._faults = faults
        self._injector = injector

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Send a file, let it go wrong as ordered, or say 403 without a reason as object stores do."""
        query = request.query
        signed = self._backend.signer.verify(
            request.rel_url.raw_path,
            query.get("expires", ""),
            query.get("signature", ""),
            self._backend.clock(),
        )
        # A client that sends its Losant token to the store has leaked it.
        if request.method not in ("GET", "HEAD") or not signed or "Authorization" in request.headers:
            return _refusal(403, "AccessDenied")
        path = self._path(request.path.strip("/").split("/"))
        if path is None or not path.is_file():
            return _refusal(404, "NoSuchKey")
        fault = self._faults.take(FILES)
        if fault is None:
            return web.FileResponse(path, headers={"Content-Type": content_type(path.name)})
        whole = Response(status=200, content=path.read_bytes(), content_type=content_type(path.name))
        return await self._injector.apply(request, fault, lambda: whole) or web.Response()

    def _path(self, parts: list[str]) -> Path | None:
        owner, kind, *name = parts
        if kind == "notebook":
            return self._backend.notebook_path(owner)
        if kind not in _KINDS or not name or ".." in name:
            return None
        return self._backend.execution_folder(owner).joinpath(kind, *name)


def _refusal(status: int, code: str) -> web.Response:
    return web.Response(
        status=status, text=f"<Error><Code>{code}</Code></Error>", content_type="application/xml"
    )
