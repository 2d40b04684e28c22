# SPDX-License-Identifier: Apache-2.0
"""Real notebooks in real kernels."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from airflow_provider_losant.emulator import Emulator, Switches
from tests.contract.api_client import ApiClient
from tests.contract.emulator_process import (
    EmulatorProcess,
    is_alive,
    wait_for_pid,
    wait_until,
    write_notebook,
)

pytestmark = pytest.mark.kernel

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


@pytest.fixture
def sleeper(losant: Emulator, tmp_path: Path) -> tuple[str, Path]:
    """Add a notebook that sleeps; returns its id and the file to which it writes its process id."""
    pid_file = tmp_path / "pid"
    file = write_notebook(tmp_path / "sleep.ipynb", SLEEP.format(path=str(pid_file)))
    return losant.add_notebook(name="Sleeper", file=file), pid_file


def test_a_notebook_reads_its_inputs_and_its_outputs_can_be_downloaded(
    losant: Emulator, client: ApiClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        file=write_notebook(tmp_path / "energy.ipynb", SUM_UP),
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
    timestamps = [
        entry[key]
        for key in ("runStartedAt", "inputsCompletedAt", "notebookCompletedAt", "outputsCompletedAt")
    ]
    assert timestamps == sorted(timestamps)


def test_an_exception_in_a_cell_fails_the_execution_with_its_name_and_message(
    losant: Emulator, client: ApiClient, tmp_path: Path
) -> None:
    fake_report = """import os; os.write(1, b'{"ended": []}\\n'); print('before')"""
    file = write_notebook(tmp_path / "bad.ipynb", fake_report, "raise ValueError('no readings for north')")
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


def test_an_invalid_notebook_file_fails_the_execution(losant: Emulator, client: ApiClient) -> None:
    notebook_id = losant.add_notebook()
    client.call("POST", f"/notebooks/{notebook_id}/upload", files={"jupyterFile": ("x.ipynb", b"no json")})

    client.execute(notebook_id)
    entry = client.wait(notebook_id)

    assert (entry["status"], entry["executionErrors"][0]["name"]) == ("errored", "NotJSONError")


def test_an_input_without_sample_data_fails_the_execution_before_the_notebook(
    losant: Emulator, client: ApiClient, tmp_path: Path
) -> None:
    file = write_notebook(tmp_path / "energy.ipynb", SUM_UP)
    query = {"inputType": "deviceData", "fileName": "energy.csv", "start": -1, "end": 0}
    notebook_id = losant.add_notebook(file=file, inputs=[query])

    client.execute(notebook_id)
    entry = client.wait(notebook_id)

    (error,) = entry["executionErrors"]
    assert (entry["status"], error["name"], "notebookCompletedAt" in entry) == (
        "errored",
        "InputError",
        False,
    )
    assert "energy.csv" in error["message"]


def test_an_error_of_the_emulator_itself_fails_the_execution(
    losant: Emulator, client: ApiClient, tmp_path: Path
) -> None:
    notebook_id = losant.add_notebook(file=write_notebook(tmp_path / "energy.ipynb", SUM_UP))
    losant.backend.notebook_path(notebook_id).unlink()

    client.execute(notebook_id)
    entry = client.wait(notebook_id)

    assert (entry["status"], entry["executionErrors"][0]["name"]) == ("errored", "FileNotFoundError")


def test_a_runner_that_is_killed_fails_the_execution(
    losant: Emulator, client: ApiClient, tmp_path: Path
) -> None:
    file = write_notebook(tmp_path / "kill.ipynb", "import os; os.kill(os.getppid(), 9)")
    notebook_id = losant.add_notebook(file=file)

    client.execute(notebook_id)
    entry = client.wait(notebook_id)

    assert (entry["status"], entry["executionErrors"]) == (
        "errored",
        [
            {
                "name": "RunnerError",
                "message": "The process that ran the notebook ended early (ended is missing).",
            }
        ],
    )


def test_what_libraries_print_when_they_are_imported_does_not_fail_an_execution(
    losant: Emulator, client: ApiClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('loading'); print('[1]')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    notebook_id = losant.add_notebook(file=write_notebook(tmp_path / "report.ipynb", "print('done')"))

    client.execute(notebook_id)
    entry = client.wait(notebook_id)

    assert (entry["status"], entry["executionErrors"]) == ("completed", [])


def test_result_files_that_are_not_configured_are_outputs_if_the_switch_says_so(
    losant: Emulator, client: ApiClient, tmp_path: Path
) -> None:
    losant.switches.unconfigured_results = True
    notebook_id = losant.add_notebook(file=write_notebook(tmp_path / "report.ipynb", "print('done')"))

    client.execute(notebook_id)
    entry = client.wait(notebook_id)

    assert set(entry["outputInfo"]) == {"result.html", "result.ipynb", "result.log"}
    assert client.file(entry, "result.log") == "done\n"


def test_an_execution_ends_as_timeout_after_its_run_minutes(
    losant: Emulator, client: ApiClient, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    file = write_notebook(tmp_path / "sleep.ipynb", SLEEP.format(path=str(pid_file)))
    notebook_id = losant.add_notebook(file=file, max_run_minutes=0.02)

    client.execute(notebook_id)
    entry = client.wait(notebook_id)

    assert (entry["status"], entry["maxAllowedRunMinutes"]) == ("timeout", 0.02)
    assert not is_alive(int(pid_file.read_text()))


def test_cancelling_kills_the_kernel(client: ApiClient, sleeper: tuple[str, Path]) -> None:
    notebook_id, pid_file = sleeper
    execution_id = client.execute(notebook_id)
    kernel = wait_for_pid(pid_file)

    response = client.cancel(notebook_id, execution_id)
    entry = client.wait(notebook_id, timeout=5)

    assert (response.status_code, entry["status"]) == (200, "canceled")
    assert not is_alive(kernel)


def test_executions_above_parallel_are_queued_and_can_be_cancelled(
    losant: Emulator, client: ApiClient, sleeper: tuple[str, Path]
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
    wait_until(lambda: client.logs(notebook_id, limit=2)[1]["status"] == "canceled", 5)


def test_deleting_a_notebook_kills_its_kernel(client: ApiClient, sleeper: tuple[str, Path]) -> None:
    notebook_id, pid_file = sleeper
    client.execute(notebook_id)
    kernel = wait_for_pid(pid_file)

    client.call("DELETE", f"/notebooks/{notebook_id}")

    wait_until(lambda: not is_alive(kernel), 5)


def test_executions_of_a_stopped_emulator_are_killed_and_errored_after_a_restart(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    file = write_notebook(tmp_path / "sleep.ipynb", SLEEP.format(path=str(pid_file)))
    with Emulator(data_dir=tmp_path / "data", switches=Switches(parallel=1)) as losant:
        client = ApiClient(losant)
        notebook_id = losant.add_notebook(file=file)
        client.execute(notebook_id)
        client.execute(notebook_id)
        kernel = wait_for_pid(pid_file)
        client.session.close()
    assert not is_alive(kernel)

    with Emulator(data_dir=tmp_path / "data") as restarted:
        entries = restarted.executions(notebook_id)

    assert [it["status"] for it in entries] == ["errored", "errored"]
    assert [it["executionErrors"][0]["name"] for it in entries] == ["EmulatorStopped", "EmulatorStopped"]
    assert ["runStartedAt" in it for it in entries] == [False, True]


def test_an_emulator_that_stops_while_it_kills_a_notebook_still_kills_all_its_processes(
    tmp_path: Path,
) -> None:
    pid_file = tmp_path / "pid"
    source = (
        "import pathlib, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(child.pid))\n"
        "time.sleep(600)"
    )
    file = write_notebook(tmp_path / "leave.ipynb", source)
    with Emulator() as losant:
        client = ApiClient(losant)
        notebook_id = losant.add_notebook(file=file)
        execution_id = client.execute(notebook_id)
        child = wait_for_pid(pid_file)
        client.cancel(notebook_id, execution_id)
        client.session.close()

    try:
        wait_until(lambda: not is_alive(child), 5)
    finally:
        if is_alive(child):
            os.kill(child, signal.SIGKILL)
    assert losant.executions(notebook_id)[0]["status"] == "canceled"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_kernel_outlives_the_command(tmp_path: Path, number: signal.Signals) -> None:
    pid_file = tmp_path / "pid"
    write_notebook(tmp_path / "sleep.ipynb", SLEEP.format(path=str(pid_file)))
    seed = tmp_path / "seed.json"
    seed.write_text(json.dumps({"notebooks": [{"name": "Sleeper", "file": "sleep.ipynb"}]}))
    with EmulatorProcess(tmp_path, "--seed", str(seed)) as command:
        command.post(f"/notebooks/{command.ready['notebooks']['Sleeper']}/execute", {})
        kernel = wait_for_pid(pid_file)

        command.process.send_signal(number)
        command.process.wait(10)

        wait_until(lambda: not is_alive(kernel), 5)
