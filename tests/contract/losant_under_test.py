# SPDX-License-Identifier: Apache-2.0
"""The Losant that both clients use: the emulator, or the real Losant if a test account is configured."""

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
KINDS_OF_LOSANT = ["emulator", *(["losant"] if REAL["TOKEN"] and REAL["APPLICATION"] else [])]


@dataclass
class LosantUnderTest:
    """
    A Losant with some notebooks.

    :param losant: The emulator, if it is one.
    """

    url: str
    token: str = field(repr=False)
    application_id: str
    losant: Emulator | None = None
    notebooks: list[str] = field(default_factory=list)

    def call(
        self, method: str, path: str = "", *, authorized: bool = True, **options: Any
    ) -> requests.Response:
        """Send a request as any HTTP client would."""
        headers = {"Authorization": f"Bearer {self.token}"} if authorized else {}
        url = f"{self.url}/applications/{self.application_id}/notebooks{path}"
        return requests.request(method, url, headers=headers, timeout=30, **options)

    def notebook(self, **script: Any) -> str:
        """Create a notebook, which is deleted at the end; in the emulator its executions follow a script."""
        created = str(self.call("POST", json={"name": f"Contract test {len(self.notebooks)}"}).json()["id"])
        self.notebooks.append(created)
        if self.losant is not None:
            self.losant.script(created, Script(**script))
        else:
            self.call("POST", f"/{created}/upload", files={"jupyterFile": ("test.ipynb", NOTEBOOK)})
        return created

    def execution(self, notebook_id: str) -> str:
        """Start an execution; returns its id."""
        return str(self.call("POST", f"/{notebook_id}/execute", json={}).json()["executionId"])

    def pause(self, seconds: float) -> None:
        """Sleep; with the emulator, advance its clock instead."""
        if self.losant is None:
            time.sleep(seconds)
        else:
            self.losant.switches.clock_skew += seconds

    def clear(self) -> None:
        """Delete the created notebooks."""
        for notebook_id in self.notebooks:
            self.call("DELETE", f"/{notebook_id}")

    def exchange_of(self, call: Callable[[], Any]) -> tuple[Any, ...]:
        """Return the one request that a call sends, and its status; compare it with the emulator's log."""
        if self.losant is not None:
            self.losant.clear_requests()
        with sent() as exchanges:
            call()
        (exchange,) = exchanges
        sent_exchange = summary_of_sent(*exchange)
        if self.losant is not None:
            (request,) = self.losant.requests
            assert summary_of_received(request) == sent_exchange, "what arrived is not what was sent"
        return sent_exchange


@contextmanager
def open_losant(kind: str) -> Iterator[LosantUnderTest]:
    """Open one of :data:`KINDS_OF_LOSANT`."""
    if kind == "emulator":
        now = float(int(time.time()))
        with Emulator(clock=lambda: now) as losant:
            yield LosantUnderTest(losant.url, losant.token, losant.application_id, losant)
        return
    url = REAL["URL"] or "https://api.losant.com"
    tested = LosantUnderTest(url.rstrip("/"), REAL["TOKEN"], REAL["APPLICATION"].lower())
    try:
        yield tested
    finally:
        tested.clear()


_CELL: dict[str, Any] = {
    "cell_type": "code",
    "id": "wait",
    "metadata": {},
    "outputs": [],
    "execution_count": None,
}
NOTEBOOK = json.dumps(
    {
        "cells": [{**_CELL, "source": "import time; time.sleep(20)"}],
        "metadata": {},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
).encode()
"""Runs long enough to be cancelled."""

Exchange = tuple[requests.PreparedRequest, requests.Response]


@contextmanager
def sent() -> Iterator[list[Exchange]]:
    """Record what this process sends with ``requests``, which both clients use."""
    exchanges: list[Exchange] = []
    send = HTTPAdapter.send

    def recording_send(
        self: HTTPAdapter, request: requests.PreparedRequest, **options: Any
    ) -> requests.Response:
        response = send(self, request, **options)
        exchanges.append((request, response))
        return response

    HTTPAdapter.send = recording_send  # type: ignore[assignment]  # within this block
    try:
        yield exchanges
    finally:
        HTTPAdapter.send = send  # type: ignore[method-assign]  # as above


def summary_of_sent(request: requests.PreparedRequest, response: requests.Response) -> tuple[Any, ...]:
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


def summary_of_received(request: Request) -> tuple[Any, ...]:
    query = {name: value for name, value in request.query.items() if name not in FLAGS}
    kind = request.headers.get("content-type", "").split(";")[0]
    return request.method, request.path, query, request.body, kind, request.authorized, request.status
