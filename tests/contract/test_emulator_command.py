# SPDX-License-Identifier: Apache-2.0
"""The emulator as a command, and its control routes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import requests

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


class Command:
    """``python -m airflow_provider_losant.emulator`` while the block lasts."""

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
        until = time.monotonic() + 20
        while not self.ready_file.is_file():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.02)
        self.ready = json.loads(self.ready_file.read_text())
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=10)

    def post(self, path: str, body: Any) -> Any:
        url = f"{self.ready['url']}/applications/{self.ready['application_id']}{path}"
        headers = {"Authorization": f"Bearer {self.ready['token']}"}
        answer = requests.post(url, json=body, headers=headers, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def control(self, method: str, path: str, body: Any = None) -> requests.Response:
        return requests.request(method, f"{self.ready['url']}/_emulator/{path}", json=body, timeout=10)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    seed = tmp_path / "seed.json"
    seed.write_text(json.dumps(SEED))
    with Command(tmp_path, "--seed", str(seed), "--token", "a-token-of-mine") as started:
        yield started


def test_the_command_serves_its_seed_and_stops_on_sigterm(command: Command) -> None:
    notebook_id = command.ready["notebooks"]["Energy"]
    command.post(f"/notebooks/{notebook_id}/execute", {"templateContext": "{}"})
    entry = command.control("GET", f"executions/{notebook_id}").json()[0]
    report = requests.get(entry["outputInfo"]["report.csv"]["url"], timeout=10).text

    command.process.send_signal(signal.SIGTERM)
    printed, _ = command.process.communicate(timeout=10)

    assert command.process.returncode == 0
    assert command.ready["application_id"] == SEED["application"]["id"]  # type: ignore[index]
    assert (notebook_id, entry["maxAllowedRunMinutes"], report) == ("575ed78e7ae143cd83dc4aab", 7, "a,b\n")
    assert command.ready["url"] in printed
    assert "Not for production use." in printed
    assert "a-token-of-mine" not in printed


def test_the_token_is_in_no_file_that_others_may_read(command: Command) -> None:
    command.post(f"/notebooks/{command.ready['notebooks']['Energy']}/execute", {})

    assert command.ready_file.stat().st_mode & 0o777 == 0o600
    logged = command.request_log.read_text()
    assert json.loads(logged)["operation"] == "notebook.execute"
    assert "a-token-of-mine" not in logged


def test_another_process_can_direct_the_emulator(command: Command) -> None:
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
    answers = [requests.get(url, headers=headers, timeout=10) for _ in range(2)]
    seen = command.control("GET", "requests").json()
    command.control("DELETE", "requests")
    command.control("POST", "inject", {"kind": "hang", "times": 9})
    command.control("DELETE", "inject")
    assert requests.get(url, headers=headers, timeout=10).status_code == 200
    command.control("DELETE", "requests")

    assert switches["listing_lag"] == 60
    assert [answer.status_code for answer in answers] == [500, 200]
    assert answers[1].json() == []
    assert command.control("GET", f"executions/{notebook_id}").json()[0]["status"] == "errored"
    assert [each["operation"] for each in seen] == ["notebook.execute", "notebook.logs", "notebook.logs"]
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
def test_the_control_routes_refuse_nonsense(
    command: Command, method: str, path: str, body: Any, status: int
) -> None:
    answer = command.control(method, path, body)

    assert (answer.status_code, "message" in answer.json()) == (status, True)


def test_the_emulator_listens_to_nobody_else_by_default(command: Command) -> None:
    assert command.ready["url"].startswith("http://127.0.0.1:")
    assert command.ready["files_url"].startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("seed", "said"),
    [("{", "Expecting"), ('{"notebooks": [{}]}', "needs a name"), (None, "No such file"), ("{}", "in use")],
)
def test_a_start_that_fails_says_why_in_one_line(tmp_path: Path, seed: str | None, said: str) -> None:
    path = tmp_path / "seed.json"
    if seed is not None:
        path.write_text(seed)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments = ["--seed", str(path), "--port", str(taken.getsockname()[1])]
        done = subprocess.run(
            [sys.executable, "-m", "airflow_provider_losant.emulator", *arguments],
            timeout=20,
            check=False,
            capture_output=True,
            text=True,
        )

    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
