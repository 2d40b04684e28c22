# SPDX-License-Identifier: Apache-2.0
"""The files port: serves input and result files to whoever holds a signed address that has not expired."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from aiohttp import web

from airflow_provider_losant.emulator.world import World, content_type

_KINDS: Final = ("inputs", "outputs")


class Files:
    """Serves the files port."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Send a file, or say 403 without a reason as object stores do."""
        query = request.query
        signed = self._world.signer.opens(
            request.rel_url.raw_path,
            query.get("expires", ""),
            query.get("signature", ""),
            self._world.clock(),
        )
        # A client that sends its Losant token to the store has leaked it.
        if request.method not in ("GET", "HEAD") or not signed or "Authorization" in request.headers:
            return web.Response(
                status=403, text="<Error><Code>AccessDenied</Code></Error>", content_type="application/xml"
            )
        path = self._path(request.path.strip("/").split("/"))
        if path is None or not path.is_file():
            return web.Response(
                status=404, text="<Error><Code>NoSuchKey</Code></Error>", content_type="application/xml"
            )
        return web.FileResponse(path, headers={"Content-Type": content_type(path.name)})

    def _path(self, parts: list[str]) -> Path | None:
        owner, kind, *name = parts
        if kind == "notebook":
            return self._world.notebook_path(owner)
        if kind not in _KINDS or not name or ".." in name:
            return None
        return self._world.execution_folder(owner).joinpath(kind, *name)
