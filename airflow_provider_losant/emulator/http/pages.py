# SPDX-License-Identifier: Apache-2.0
"""The pages under ``/_emulator/ui``: an application's notebooks, executions and outputs, to read only."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from airflow_provider_losant.emulator.state import serializers

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.backend import Backend
    from airflow_provider_losant.emulator.state.model import Application

ROOT: Final = "/_emulator/ui"
MAX_EXECUTIONS: Final = 100
"""Executions on the page of a notebook."""
_TIMES: Final = ("runQueuedAt", "runStartedAt", "outputsCompletedAt")
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Referrer-Policy": "no-referrer",
}
_PAGE: Final = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ border-bottom: 1px solid #ccc; padding: .3em .6em; text-align: left; vertical-align: top }}
</style></head>
<body><p>Local Losant</p><h1>{title}</h1>{body}</body>
</html>
"""


class Pages:
    """
    Serves the pages, to clients on this machine only: they give access to outputs without a token.

    :param backend: the state of the emulator.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, which are those of Losant's web interface below ``ROOT``."""
        path = f"{ROOT}/applications/{{application_id}}"
        return [
            web.get(path, self._handler(self._application), allow_head=False),
            web.get(f"{path}/notebooks/{{notebook_id}}", self._handler(self._notebook), allow_head=False),
        ]

    def _handler(self, render: Callable[[Mapping[str, str]], str]) -> Any:
        async def handle(request: web.Request) -> web.Response:
            text, status = "Not found", 404
            if _is_loopback(request.remote):
                with self._backend.lock, suppress(KeyError):
                    text, status = render(request.match_info), 200
            return web.Response(text=text, status=status, content_type="text/html", headers=_HEADERS)

        return handle

    def _application(self, ids: Mapping[str, str]) -> str:
        application = self._find(ids)
        rows = []
        for notebook in self._backend.notebooks.values():
            if notebook.application_id == application.id:
                count = sum(1 for _ in self._backend.executions(notebook.id))
                address = f"{ROOT}/applications/{application.id}/notebooks/{notebook.id}"
                rows.append((_link(address, notebook.name), escape(notebook.id), str(count)))
        return _page(application.name, _table(("Notebook", "ID", "Executions"), rows))

    def _notebook(self, ids: Mapping[str, str]) -> str:
        application = self._find(ids)
        notebook = self._backend.notebooks[ids["notebook_id"].lower()]
        if notebook.application_id != application.id:
            raise KeyError(notebook.id)
        latest = serializers.execution_log(self._backend, notebook.id)[:MAX_EXECUTIONS]
        rows = [
            (
                escape(it["id"]),
                escape(it["status"]),
                *(escape(it.get(name, "")) for name in _TIMES),
                "<br>".join(_link(file["url"], name) for name, file in it["outputInfo"].items()),
                "<br>".join(
                    escape(f"{error['name']}: {error['message']}") for error in it["executionErrors"]
                ),
            )
            for it in latest
        ]
        back = _link(f"{ROOT}/applications/{application.id}", application.name)
        head = ("Execution", "Status", "Queued", "Started", "Ended", "Outputs", "Errors")
        return _page(notebook.name, f"<p>{back}</p>{_table(head, rows)}")

    def _find(self, ids: Mapping[str, str]) -> Application:
        return self._backend.applications[ids["application_id"].lower()]


def _is_loopback(address: str | None) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(address or "").is_loopback
    return False


def _page(title: str, body: str) -> str:
    return _PAGE.format(title=escape(title), body=body)


def _link(address: str, text: str) -> str:
    return f'<a href="{escape(address)}">{escape(text)}</a>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the cells are HTML already."""
    if not rows:
        return "<p>None yet.</p>"
    lines = [f"<tr>{''.join(f'<th>{it}</th>' for it in head)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{it}</td>' for it in row)}</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"
