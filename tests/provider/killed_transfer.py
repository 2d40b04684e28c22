# SPDX-License-Identifier: Apache-2.0
"""
Run a transfer in a process of its own, with the signal handler of Airflow.

Arguments: the ids of notebook and execution, the destination, and ``raises`` for the handler of Airflow 2.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from airflow.secrets.base_secrets import BaseSecretsBackend

from airflow_provider_losant.transfers.notebook_outputs import LosantNotebookOutputsToObjectStorageOperator

HANDLED = "on_kill has returned"
FOLDER = "TEST_SECRETS_FOLDER"
"""The variable with the folder in which :class:`SlowSecrets` notes that it is asked, and is let go."""


class SlowSecrets(BaseSecretsBackend):
    """
    A secrets backend that answers only when it is let go.

    It has a lock, as the connection of a task to its supervisor has.
    """

    _lock = threading.Lock()

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:
        folder = Path(os.environ[FOLDER])
        with self._lock:
            (folder / "asked").touch()
            until = time.monotonic() + 60
            while not (folder / "go").exists() and time.monotonic() < until:
                time.sleep(0.02)
        return os.environ.get(f"THE_CONNECTION_{conn_id.upper()}")


def main(notebook: str, execution: str, destination: str, *more: str) -> None:
    task = LosantNotebookOutputsToObjectStorageOperator(
        task_id="copy", notebook_id=notebook, execution_id=execution, destination=destination
    )

    def on_term(*_: object) -> None:
        task.on_kill()
        print(HANDLED, flush=True)
        if "raises" in more:
            raise SystemExit("terminated")

    signal.signal(signal.SIGTERM, on_term)
    task.execute({})  # the transfer uses no context


if __name__ == "__main__":
    main(*sys.argv[1:])
