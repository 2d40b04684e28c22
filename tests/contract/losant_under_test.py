# SPDX-License-Identifier: Apache-2.0
"""Where both clients ask: the emulator, or the real Losant where an account for tests is given."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from requests.adapters import HTTPAdapter

from airflow_provider_losant.emulator import Emulator, Request, Script

FLAGS = {"_actions", "_links", "_embedded"}
REAL = {name: os.environ.get(f"LOSANT_TEST_{name}", "") for name in ("TOKEN", "APPLICATION", "URL")}
PLACES = ["emulator", *(["losant"] if REAL["TOKEN"] and REAL["APPLICATION"] else [])]


@dataclass
class Place:
    """
    A Losant with a notebook or two.

    :param losant: The emulator, where it is one.
    """

    url: str
    token: str = field(repr=False)
    application_id: str
    losant: Emulator | None = None
    made: list[str] = field(default_factory=list)

    def call(
        self, method: str, path: str = "", *, authorized: bool = True, **options: Any
    ) -> requests.Response:
        """Ask as any HTTP client would."""
        headers = {"Authorization": f"Bearer {self.token}"} if authorized else {}
        url = f"{self.url}/applications/{self.application_id}/notebooks{path}"
        return requests.request(method, url, headers=headers, timeout=30, **options)

    def notebook(self, **script: Any) -> str:
        """Make a notebook, which is deleted in the end; in the emulator its runs follow a script."""
        made = str(self.call("POST", json={"name": f"Contract test {len(self.made)}"}).json()["id"])
        self.made.append(made)
        if self.losant is not None:
            self.losant.script(made, Script(**script))
        else:
            self.call("POST", f"/{made}/upload", files={"jupyterFile": ("test.ipynb", NOTEBOOK)})
        return made

    def execution(self, notebook_id: str) -> str:
        """Start an execution."""
        return str(self.call("POST", f"/{notebook_id}/execute", json={}).json()["executionId"])

    def pause(self, seconds: float) -> None:
        """Let time pass; in the emulator it only seems to."""
        if self.losant is None:
            time.sleep(seconds)
        else:
            self.losant.switches.clock_skew += seconds

    def clear(self) -> None:
        """Delete what was made."""
        for notebook_id in self.made:
            self.call("DELETE", f"/{notebook_id}")

    def asked(self, ask: Callable[[], Any]) -> tuple[Any, ...]:
        """Return the one request that asking sends, and how it was answered; as it arrived, where we know."""
        if self.losant is not None:
            self.losant.clear_requests()
        with sent() as exchanges:
            ask()
        (exchange,) = exchanges
        seen = _essence_of_sent(*exchange)
        if self.losant is not None:
            (request,) = self.losant.requests
            assert _essence(request) == seen, "what arrived is not what was sent"
        return seen


@contextmanager
def a_place(kind: str) -> Iterator[Place]:
    """Open one of :data:`PLACES`."""
    if kind == "emulator":
        now = float(int(time.time()))
        with Emulator(clock=lambda: now) as losant:
            yield Place(losant.url, losant.token, losant.application_id, losant)
        return
    url = REAL["URL"] or "https://api.losant.com"
    place = Place(url.rstrip("/"), REAL["TOKEN"], REAL["APPLICATION"].lower())
    try:
        yield place
    finally:
        place.clear()


_CELL = {"cell_type": "code", "id": "wait", "metadata": {}, "outputs": [], "execution_count": None}
NOTEBOOK = json.dumps(
    {
        "cells": [{**_CELL, "source": "import time; time.sleep(20)"}],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
).encode()
"""Runs for long enough to be cancelled."""

Exchange = tuple[requests.PreparedRequest, requests.Response]


@contextmanager
def sent() -> Iterator[list[Exchange]]:
    """Take down what leaves this process by ``requests``, which both clients use."""
    exchanges: list[Exchange] = []
    send = HTTPAdapter.send

    def noted(self: HTTPAdapter, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        response = send(self, request, **options)
        exchanges.append((request, response))
        return response

    HTTPAdapter.send = noted  # type: ignore[assignment]  # for the while of this block
    try:
        yield exchanges
    finally:
        HTTPAdapter.send = send  # type: ignore[method-assign]  # as above


def _essence_of_sent(request: requests.PreparedRequest, response: requests.Response) -> tuple[Any, ...]:
    address = urlsplit(str(request.url))
    kind = str(request.headers.get("Content-Type", "")).split(";")[0]
    body = json.loads(request.body or "null") if kind == "application/json" else None
    return (
        request.method,
        address.path,
        {name: value for name, value in parse_qsl(address.query) if name not in FLAGS},
        body,
        kind,
        "Authorization" in request.headers,
        response.status_code,
    )


def _essence(request: Request) -> tuple[Any, ...]:
    query = {name: value for name, value in request.query.items() if name not in FLAGS}
    kind = request.headers.get("content-type", "").split(";")[0]
    return request.method, request.path, query, request.body, kind, request.authorized, request.status
