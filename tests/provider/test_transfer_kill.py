# SPDX-License-Identifier: Apache-2.0
"""
A transfer that is killed by a real signal, in a process of its own.

In the signal handler nothing may be asked of Airflow: the code that the signal interrupted may hold a lock,
and both would wait until SIGKILL.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from airflow_provider_losant.emulator import Emulator, Fault
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.transfers.notebook_outputs import LosantNotebookOutputsToObjectStorageOperator
from tests.provider import killed_transfer
from tests.provider.conftest import operations, set_connection
from tests.support.paths import ROOT
from tests.support.processes import wait_for

ENOUGH = 60.0
"""Seconds for a process to start, or to end, on a busy machine."""
BOTH_AIRFLOWS = pytest.mark.parametrize("handler", ["returns", "raises"], ids=["Airflow 3", "Airflow 2"])


@pytest.fixture
def ended(losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return an execution that has ended; requests time out after a second."""
    set_connection(monkeypatch, losant, extra={"timeout": 1.0, "max_retries": 4})
    execution = LosantHook().execute_notebook(notebook)
    wait_for(lambda: losant.executions(notebook)[0]["status"] == "completed", what="the end", timeout=ENOUGH)
    losant.clear_requests()
    return execution


@contextmanager
def transfer(notebook: str, execution: str, folder: Path, handler: str) -> Iterator[subprocess.Popen[str]]:
    """Run a transfer in a process, with its output in a file."""
    command = [
        sys.executable,
        "-m",
        killed_transfer.__name__,
        notebook,
        execution,
        str(folder / "to"),
        handler,
    ]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            command, cwd=ROOT, env=dict(os.environ), stdout=log, stderr=log, text=True
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def assert_ends_by_itself(process: subprocess.Popen[str], folder: Path) -> str:
    """Check that the handler returned and the process failed, and return its output."""
    log = folder / "log"
    wait_for(lambda: killed_transfer.HANDLED in log.read_text(), what="the signal handler", timeout=ENOUGH)
    assert process.wait(ENOUGH) not in {0, -9}
    assert not (folder / "to").exists()
    return log.read_text()


@BOTH_AIRFLOWS
def test_a_kill_ends_a_transfer_that_hangs_in_its_first_request(
    losant: Emulator, notebook: str, ended: str, tmp_path: Path, handler: str
) -> None:
    losant.inject("notebook.logs", Fault("hang", seconds=120), times=9)

    with transfer(notebook, ended, tmp_path, handler) as process:
        wait_for(lambda: operations(losant), what="the first request", timeout=ENOUGH)
        process.terminate()
        log = assert_ends_by_itself(process, tmp_path)

    assert operations(losant) == ["notebook.logs"]
    assert ("The task was killed" in log) == (handler == "returns")


@pytest.mark.parametrize("is_first", [True, False], ids=["before it starts", "in its first request"])
def test_a_killed_transfer_fails_and_saves_nothing(
    losant: Emulator, notebook: str, ended: str, tmp_path: Path, *, is_first: bool
) -> None:
    losant.inject("notebook.logs", Fault("hang", seconds=120), times=9)
    task = LosantNotebookOutputsToObjectStorageOperator(
        task_id="copy", notebook_id=notebook, execution_id=ended, destination=str(tmp_path / "to")
    )

    def kill() -> None:
        if not is_first:
            wait_for(lambda: operations(losant), what="the first request", timeout=ENOUGH)
        task.on_kill()

    killer = threading.Thread(target=kill)
    killer.start()
    if is_first:
        killer.join()
    with pytest.raises(AirflowException, match="The task was killed"):
        task.execute({})
    killer.join()

    assert operations(losant) == ([] if is_first else ["notebook.logs"])
    assert not (tmp_path / "to").exists()


@BOTH_AIRFLOWS
def test_a_kill_before_the_connection_is_known_asks_airflow_for_nothing_and_no_request_follows(
    losant: Emulator,
    notebook: str,
    ended: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    handler: str,
) -> None:
    monkeypatch.setenv("THE_CONNECTION_LOSANT_DEFAULT", os.environ["AIRFLOW_CONN_LOSANT_DEFAULT"])
    monkeypatch.delenv("AIRFLOW_CONN_LOSANT_DEFAULT")
    backend = f"{killed_transfer.__name__}.{killed_transfer.SlowSecrets.__name__}"
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", backend)
    monkeypatch.setenv("AIRFLOW__WORKERS__SECRETS_BACKEND", backend)
    monkeypatch.setenv(killed_transfer.FOLDER, str(tmp_path))

    with transfer(notebook, ended, tmp_path, handler) as process:
        wait_for((tmp_path / "asked").exists, what="the question for the connection", timeout=ENOUGH)
        process.terminate()
        log = tmp_path / "log"
        wait_for(lambda: killed_transfer.HANDLED in log.read_text(), what="the signal handler", timeout=10)
        (tmp_path / "go").touch()
        assert_ends_by_itself(process, tmp_path)

    assert operations(losant) == []
