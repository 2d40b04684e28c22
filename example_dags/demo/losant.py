# SPDX-License-Identifier: Apache-2.0
"""A local Losant with the example notebooks, in a process of its own."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Self

import requests

from example_dags.demo.checks import SEED
from tests.support.processes import Process, free_port, kill_by_environment, wait_for

if TYPE_CHECKING:
    from pathlib import Path

FOLDER_VARIABLE = "LOSANT_EMULATOR_FOLDER"


class LocalLosant:
    """
    Run the emulator with the example notebooks while a ``with`` block lasts.

    :param folder: For its logs; ``requests.jsonl`` has every request.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.request_log = folder / "requests.jsonl"
        self._ready = folder / "ready.json"
        command = [sys.executable, "-m", "airflow_provider_losant.emulator", "--quiet"]
        # A DAG run that is triggered now needs readings too, and those of the sample data are of March 2026.
        command += ["--repeat-samples"]
        command += ["--port", str(free_port()), "--files-port", str(free_port())]
        command += ["--seed", str(SEED), "--ready-file", str(self._ready)]
        command += ["--request-log", str(self.request_log)]
        # The kernels inherit this variable, so that all of them are found and stopped.
        self._folder = str(folder)
        env = {name: value for name, value in os.environ.items() if name != "AIRFLOW_HOME"} | {
            FOLDER_VARIABLE: self._folder
        }
        self._process = Process("emulator", command, env=env, log=folder / "emulator.log")
        self.url = self.files_url = self.app_url = self.application_id = self.token = ""

    def __enter__(self) -> Self:
        self._process.start()
        try:
            wait_for(self._is_ready, what=f"the emulator, see {self._process.log}", timeout=60)
        except BaseException:
            self._stop()
            raise
        ready = json.loads(self._ready.read_text())
        self.url, self.files_url, self.app_url = ready["url"], ready["files_url"], ready["app_url"]
        self.application_id, self.token = ready["application_id"], ready["token"]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        self._process.stop()
        kill_by_environment(FOLDER_VARIABLE, self._folder)

    def _is_ready(self) -> bool:
        if not self._process.is_running:
            raise RuntimeError(f"The emulator ended early:\n{self._process.tail()}")
        return self._ready.exists()

    def connection(self) -> dict[str, Any]:
        """Return the fields of the Airflow connection to this Losant."""
        # With the port in its own field, since Airflow 3.3 does not test a connection without one.
        host, _, port = self.url.rpartition(":")
        extra = {"application_id": self.application_id, "app_url": self.app_url}
        return {
            "conn_type": "losant",
            "host": host,
            "port": int(port),
            "password": self.token,
            "extra": extra,
        }

    def statuses(self, notebook_id: str) -> Counter[str]:
        """Count the executions of a notebook by status."""
        response = requests.get(f"{self.url}/_emulator/executions/{notebook_id}", timeout=10)
        response.raise_for_status()
        return Counter(execution["status"] for execution in response.json())

    def requests(self) -> list[dict[str, Any]]:
        """Return all requests that Losant has received."""
        return [json.loads(line) for line in self.request_log.read_text().splitlines()]
