# SPDX-License-Identifier: Apache-2.0
"""The emulator as a command, and its control routes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.contract.emulator_process import EmulatorProcess

SEED = {
    "application": {"id": "575ec8687ae143cd83dc4a97", "name": "Plant"},
    "notebooks": [
        {
            "id": "575ed78e7ae143cd83dc4aab",
            "name": "Energy",
            "outputs": [{"outputType": "temporaryUrl", "fileName": "report.csv"}],
            "maxRunMinutes": 7,
            "script": {"notebook": 0, "files": {"report.csv": "a,b\n"}},
        }
    ],
}


@pytest.fixture
def command(tmp_path: Path) -> Iterator[EmulatorProcess]:
    seed = tmp_path / "seed.json"
    seed.write_text(json.dumps(SEED))
    with EmulatorProcess(tmp_path, "--seed", str(seed), "--token", "a-token-of-mine") as process:
        yield process


def test_the_command_serves_its_seed_and_stops_on_sigterm(command: EmulatorProcess) -> None:
    notebook_id = command.ready["notebooks"]["Energy"]
    command.post(f"/notebooks/{notebook_id}/execute", {"templateContext": "{}"})
    entry = command.control("GET", f"executions/{notebook_id}").json()[0]
    report = requests.get(entry["outputInfo"]["report.csv"]["url"], timeout=10).text

    command.process.send_signal(signal.SIGTERM)
    printed, _ = command.process.communicate(timeout=60)

    assert command.process.returncode == 0
    assert command.ready["application_id"] == SEED["application"]["id"]  # type: ignore[index]
    assert (notebook_id, entry["maxAllowedRunMinutes"], report) == ("575ed78e7ae143cd83dc4aab", 7, "a,b\n")
    assert command.ready["url"] in printed
    assert "Not for production use." in printed
    assert "a-token-of-mine" not in printed


def test_no_file_that_other_users_can_read_contains_the_token(command: EmulatorProcess) -> None:
    command.post(f"/notebooks/{command.ready['notebooks']['Energy']}/execute", {})

    assert command.ready_file.stat().st_mode & 0o777 == 0o600
    logged = command.request_log.read_text()
    assert json.loads(logged)["operation"] == "notebook.execute"
    assert "a-token-of-mine" not in logged


def test_another_process_can_use_the_control_routes(command: EmulatorProcess) -> None:
    notebook_id = command.ready["notebooks"]["Energy"]

    command.control(
        "POST", f"script/{notebook_id}", {"ending": "errored", "errors": [["E", "boom"]], "notebook": 0}
    )
    command.control("POST", "inject", {"operation": "notebook.logs", "kind": "html", "status": 500})
    switches = command.control("PATCH", "switches", {"listing_lag": 60}).json()
    command.post(f"/notebooks/{notebook_id}/execute", {})
    url = (
        f"{command.ready['url']}/applications/{command.ready['application_id']}/notebooks/{notebook_id}/logs"
    )
    headers = {"Authorization": f"Bearer {command.ready['token']}"}
    responses = [requests.get(url, headers=headers, timeout=10) for _ in range(2)]
    logged = command.control("GET", "requests").json()
    command.control("DELETE", "requests")
    command.control("POST", "inject", {"kind": "hang", "times": 9})
    command.control("DELETE", "inject")
    assert requests.get(url, headers=headers, timeout=10).status_code == 200
    command.control("DELETE", "requests")

    assert switches["listing_lag"] == 60
    assert [response.status_code for response in responses] == [500, 200]
    assert responses[1].json() == []
    assert command.control("GET", f"executions/{notebook_id}").json()[0]["status"] == "errored"
    assert [each["operation"] for each in logged] == ["notebook.execute", "notebook.logs", "notebook.logs"]
    assert command.control("GET", "requests").json() == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "inject", {"kind": "tsunami"}, 400),
        ("POST", "inject", {}, 400),
        ("PATCH", "switches", {"speed": 1}, 400),
        ("POST", "script/unknown", {}, 404),
        ("POST", "script/575ed78e7ae143cd83dc4aab", {"speed": 1}, 400),
    ],
)
def test_the_control_routes_reject_invalid_requests(
    command: EmulatorProcess, method: str, path: str, body: Any, status: int
) -> None:
    response = command.control(method, path, body)

    assert (response.status_code, "message" in response.json()) == (status, True)


def test_the_emulator_listens_on_localhost_by_default(command: EmulatorProcess) -> None:
    assert command.ready["url"].startswith("http://127.0.0.1:")
    assert command.ready["files_url"].startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("seed", "reason"),
    [("{", "Expecting"), ('{"notebooks": [{}]}', "needs a name"), (None, "No such file"), ("{}", "in use")],
)
def test_a_failed_start_prints_its_reason_in_one_line(tmp_path: Path, seed: str | None, reason: str) -> None:
    path = tmp_path / "seed.json"
    if seed is not None:
        path.write_text(seed)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = ["--seed", str(path), "--port", str(listener.getsockname()[1])]
        result = subprocess.run(
            [sys.executable, "-m", "airflow_provider_losant.emulator", *arguments],
            timeout=20,
            check=False,
            capture_output=True,
            text=True,
        )

    assert result.returncode == 1
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1
