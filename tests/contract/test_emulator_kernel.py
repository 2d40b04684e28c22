# SPDX-License-Identifier: Apache-2.0
"""Real notebooks in real kernels."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from airflow_provider_losant.emulator import Emulator
from tests.contract.conftest import Client

pytestmark = pytest.mark.kernel

T = TypeVar("T")
MIDNIGHT = 1_769_904_000_000  # 2026-02-01T00:00:00Z
RESULTS = [
    {"outputType": "executionResult", "fileName": f"result.{kind}"}
    for kind in ("html", "ipynb", "log", "error.log")
]
SUM_UP = """
import csv, json, os
with open(os.path.join(os.environ["INPUT_DIR"], "energy.csv")) as source:
    rows = list(csv.DictReader(source))
with open(os.path.join(os.environ["INPUT_DIR"], "context.json")) as source:
    site = json.load(source)["site"]
total = sum(float(row["kwh"]) for row in rows)
with open(os.path.join(os.environ["OUTPUT_DIR"], f"{site}.csv"), "w") as target:
    target.write(f"site,total\\n{site},{total}\\n")
print(f"{site} used {total} kWh")
print("secret:", os.environ.get("AIRFLOW__CORE__FERNET_KEY"))
"""
SLEEP = """
import os, pathlib, time
pathlib.Path({path!r}).write_text(str(os.getpid()))
time.sleep(600)
"""


def write(path: Path, *cells: str) -> Path:
    code: dict[str, Any] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    content = [{**code, "id": f"cell-{number}", "source": cell} for number, cell in enumerate(cells)]
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": content}
    path.write_text(json.dumps(notebook))
    return path


def eventually(look: Callable[[], T | None], within: float = 20) -> T:
    until = time.monotonic() + within
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    pytest.fail(f"not within {within} s")


def pid_in(path: Path) -> Callable[[], int | None]:
    return lambda: int(path.read_text() or 0) if path.is_file() else None


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def sleeper(losant: Emulator, tmp_path: Path) -> tuple[str, Path]:
    """Make a notebook that never ends by itself, and name the file that its kernel writes its pid to."""
    pid = tmp_path / "pid"
    file = write(tmp_path / "sleep.ipynb", SLEEP.format(path=str(pid)))
    return losant.add_notebook(name="Sleeper", file=file), pid


def test_a_notebook_computes_on_its_inputs_and_its_files_can_be_fetched(
    losant: Emulator, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "not for notebooks")
    sample = tmp_path / "sample.csv"
    lines = [
        f"{MIDNIGHT - hour * 3_600_000},{site},{hour}" for hour in range(1, 49) for site in ("north", "south")
    ]
    sample.write_text("\n".join(["Timestamp,site,kwh", *lines, ""]))
    day = {"inputType": "deviceData", "fileName": "energy.csv", "start": -86_400_000, "end": 0}
    notebook_id = losant.add_notebook(
        name="Energy",
        file=write(tmp_path / "energy.ipynb", SUM_UP),
        inputs=[{**day, "deviceTags": [{"key": "site", "value": "{{site}}"}]}],
        outputs=[*RESULTS, {"outputType": "temporaryUrl", "fileName": "{{site}}.csv"}],
        samples={"energy.csv": sample},
    )

    client.execute(
        notebook_id, relativeTo="2026-02-01T00:00:00Z", templateContext=json.dumps({"site": "north"})
    )
    entry = client.wait(notebook_id)

    assert (entry["status"], entry["executionErrors"]) == ("completed", [])
    assert set(entry["outputInfo"]) == {"result.html", "result.ipynb", "result.log", "north.csv"}
    assert client.file(entry, "north.csv") == "site,total\nnorth,300.0\n"
    assert "north used 300.0 kWh" in client.file(entry, "result.html")
    assert client.file(entry, "result.log") == "north used 300.0 kWh\nsecret: None\n"
    assert len(client.file(entry, "energy.csv", "inputInfo").splitlines()) == 25
    marks = [
        entry[key]
        for key in ("runStartedAt", "inputsCompletedAt", "notebookCompletedAt", "outputsCompletedAt")
    ]
    assert marks == sorted(marks)


def test_an_exception_in_a_cell_fails_the_execution_and_explains_itself(
    losant: Emulator, client: Client, tmp_path: Path
) -> None:
    spoof = """import os; os.write(1, b'{"ended": []}\\n'); print('before')"""
    file = write(tmp_path / "bad.ipynb", spoof, "raise ValueError('no readings for north')")
    notebook_id = losant.add_notebook(
        file=file, outputs=[*RESULTS, {"outputType": "temporaryUrl", "fileName": "x"}]
    )

    client.execute(notebook_id)
    entry = client.wait(notebook_id)

    assert entry["status"] == "errored"
    assert entry["executionErrors"] == [{"name": "ValueError", "message": "no readings for north"}]
    log = client.file(entry, "result.error.log")
    assert "raise ValueError('no readings for north')" in log
    assert "\x1b" not in log
    assert "before" in client.file(entry, "result.log")


def test_what_is_no_notebook_fails_the_execution(losant: Emulator, client: Client) -> None:
    notebook_id = losant.add_notebook()
    client.call("POST", f"/notebooks/{notebook_id}/upload", files={"jupyterFile": ("x.ipynb", b"no json")})

    client.execute(notebook_id)
    entry = client.wait(notebook_id)

    assert (entry["status"], entry["executionErrors"][0]["name"]) == ("errored", "NotJSONError")


def test_the_run_limit_ends_a_notebook_as_timeout(losant: Emulator, client: Client, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    file = write(tmp_path / "sleep.ipynb", SLEEP.format(path=str(pid)))
    notebook_id = losant.add_notebook(file=file, max_run_minutes=0.02)

    client.execute(notebook_id)
    entry = client.wait(notebook_id)

    assert (entry["status"], entry["maxAllowedRunMinutes"]) == ("timeout", 0.02)
    assert not is_alive(int(pid.read_text()))


def test_cancelling_kills_the_kernel(client: Client, sleeper: tuple[str, Path]) -> None:
    notebook_id, pid = sleeper
    execution_id = client.execute(notebook_id)
    kernel = eventually(pid_in(pid))

    answer = client.cancel(notebook_id, execution_id)
    entry = client.wait(notebook_id, within=5)

    assert (answer.status_code, entry["status"]) == (200, "canceled")
    assert not is_alive(kernel)


def test_what_waits_its_turn_is_queued_and_can_be_cancelled(
    losant: Emulator, client: Client, sleeper: tuple[str, Path]
) -> None:
    losant.switches.parallel = 1
    notebook_id, _ = sleeper
    first = client.execute(notebook_id)
    second = client.execute(notebook_id)

    statuses = [entry["status"] for entry in client.logs(notebook_id, limit=2)]
    client.cancel(notebook_id, second)

    assert statuses == ["queued", "inProgress"]
    assert client.logs(notebook_id)[0]["status"] == "canceled"
    assert client.logs(notebook_id, limit=2)[1]["id"] == first
    client.cancel(notebook_id, first)
    eventually(lambda: client.logs(notebook_id, limit=2)[1]["status"] == "canceled", 5)


def test_deleting_a_notebook_kills_its_kernel(client: Client, sleeper: tuple[str, Path]) -> None:
    notebook_id, pid = sleeper
    client.execute(notebook_id)
    kernel = eventually(pid_in(pid))

    client.call("DELETE", f"/notebooks/{notebook_id}")

    eventually(lambda: not is_alive(kernel), 5)


def test_a_stopped_emulator_leaves_no_kernel_and_says_so_after_the_restart(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    file = write(tmp_path / "sleep.ipynb", SLEEP.format(path=str(pid)))
    with Emulator(data_dir=tmp_path / "data") as losant:
        client = Client(losant)
        notebook_id = losant.add_notebook(file=file)
        client.execute(notebook_id)
        kernel = eventually(pid_in(pid))
        client.session.close()
    assert not is_alive(kernel)

    with Emulator(data_dir=tmp_path / "data") as again:
        entry: dict[str, Any] = again.executions(notebook_id)[0]

    assert (entry["status"], entry["executionErrors"][0]["name"]) == ("errored", "EmulatorStopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_kernel_outlives_the_command(tmp_path: Path, number: signal.Signals) -> None:
    from tests.contract.test_emulator_command import Command

    pid = tmp_path / "pid"
    write(tmp_path / "sleep.ipynb", SLEEP.format(path=str(pid)))
    seed = tmp_path / "seed.json"
    seed.write_text(json.dumps({"notebooks": [{"name": "Sleeper", "file": "sleep.ipynb"}]}))
    with Command(tmp_path, "--seed", str(seed)) as command:
        command.post(f"/notebooks/{command.ready['notebooks']['Sleeper']}/execute", {})
        kernel = eventually(pid_in(pid))

        command.process.send_signal(number)
        command.process.wait(10)

        eventually(lambda: not is_alive(kernel), 5)
