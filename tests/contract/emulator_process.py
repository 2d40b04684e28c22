# SPDX-License-Identifier: Apache-2.0
"""The emulator as a command, and the kernels that it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import requests

from tests.support.processes import wait_for


class EmulatorProcess:
    """Run ``python -m airflow_provider_losant.emulator`` while the ``with`` block lasts."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.ready_file = folder / "ready.json"
        self.request_log = folder / "requests.jsonl"
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-W",
                "error",
                "-m",
                "airflow_provider_losant.emulator",
                "--ready-file",
                str(self.ready_file),
                "--request-log",
                str(self.request_log),
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        self.ready: dict[str, Any] = {}

    def __enter__(self) -> Self:
        def is_ready() -> bool:
            assert self.process.poll() is None, self.process.communicate()[0]
            return self.ready_file.is_file()

        wait_for(is_ready, what="the ready file", timeout=20, every=0.02)
        self.ready = json.loads(self.ready_file.read_text())
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=60)

    def post(self, path: str, body: Any) -> Any:
        """Send a request to the default application; returns the JSON of the response."""
        url = f"{self.ready['url']}/applications/{self.ready['application_id']}{path}"
        headers = {"Authorization": f"Bearer {self.ready['token']}"}
        response = requests.post(url, json=body, headers=headers, timeout=10)
        assert response.status_code == 200, response.text
        return response.json()

    def control(self, method: str, path: str, body: Any = None) -> requests.Response:
        """Send a request to a control route."""
        return requests.request(method, f"{self.ready['url']}/_emulator/{path}", json=body, timeout=10)


def write_notebook(path: Path, *cells: str) -> Path:
    """Write a notebook with these code cells; returns the path."""
    code: dict[str, Any] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    content = [{**code, "id": f"cell-{number}", "source": cell} for number, cell in enumerate(cells)]
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": content}
    path.write_text(json.dumps(notebook))
    return path


def wait_until(condition: Callable[[], Any], timeout: float = 20) -> None:
    """Wait until a condition is true."""
    wait_for(condition, what="a condition", timeout=timeout, every=0.02)


def wait_for_pid(path: Path) -> int:
    """Wait until a notebook has written a process id to a file; returns the id."""
    return wait_for(
        lambda: int(path.read_text() or 0) if path.is_file() else None,
        what="a process id",
        timeout=20,
        every=0.02,
    )


def is_alive(pid: int) -> bool:
    """Return whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
