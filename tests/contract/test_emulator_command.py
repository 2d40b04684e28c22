# SPDX-License-Identifier: Apache-2.0
"""The emulator as a command, as a process and in this one."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from airflow_provider_losant.emulator.__main__ import main
from tests.contract.emulator_process import EmulatorProcess, wait_until

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


@pytest.fixture
def signal_handlers() -> Iterator[None]:
    """Restore the handlers that the command replaces."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


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


def test_the_emulator_listens_on_localhost_by_default(command: EmulatorProcess) -> None:
    assert command.ready["url"].startswith("http://127.0.0.1:")
    assert command.ready["files_url"].startswith("http://127.0.0.1:")


def run_until(number: signal.Signals, folder: Path, *options: str) -> tuple[int, str]:
    """Run the command in this process until a signal; returns its exit code and its URL."""
    seed, ready_file = folder / "seed.json", folder / "ready.json"
    seed.write_text(json.dumps(SEED))

    def stop() -> dict[str, Any]:
        wait_until(ready_file.is_file)
        ready: dict[str, Any] = json.loads(ready_file.read_text())
        assert requests.get(f"{ready['url']}/_emulator/requests", timeout=10).json() == []
        os.kill(os.getpid(), number)
        return ready

    with ThreadPoolExecutor(1) as other:
        stopped = other.submit(stop)
        exit_code = main(["--seed", str(seed), "--ready-file", str(ready_file), *options])
    return exit_code, str(stopped.result()["url"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_and_its_server(
    tmp_path: Path, signal_handlers: None, number: signal.Signals
) -> None:
    exit_code, url = run_until(number, tmp_path)

    address = urlsplit(url)
    assert exit_code == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname or "", address.port or 0), timeout=10)


def test_a_signal_during_the_start_ends_the_command(signal_handlers: None) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def stop() -> None:
        wait_until(lambda: signal.getsignal(signal.SIGTERM) is not before)
        os.kill(os.getpid(), signal.SIGTERM)

    with ThreadPoolExecutor(1) as other:
        stopped = other.submit(stop)
        assert main(["--quiet"]) == 0
    stopped.result()


@pytest.mark.parametrize("is_quiet", [False, True])
def test_the_command_prints_its_addresses_unless_it_is_quiet(
    tmp_path: Path, signal_handlers: None, capsys: pytest.CaptureFixture[str], *, is_quiet: bool
) -> None:
    _, url = run_until(signal.SIGTERM, tmp_path, *(["--quiet"] if is_quiet else []))

    printed = capsys.readouterr().out
    assert (f"Losant API {url}  files http://" in printed) is not is_quiet
    assert (printed == "") is is_quiet


@pytest.mark.parametrize(
    ("seed", "reason"),
    [("{", "Expecting"), ('{"notebooks": [{}]}', "needs a name"), (None, "No such file"), ("{}", "in use")],
)
def test_a_failed_start_prints_its_reason_in_one_line(
    tmp_path: Path, signal_handlers: None, capsys: pytest.CaptureFixture[str], seed: str | None, reason: str
) -> None:
    path = tmp_path / "seed.json"
    if seed is not None:
        path.write_text(seed)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(SystemExit) as exited:
        main(["--seed", str(path), "--port", str(listener.getsockname()[1])])

    printed = capsys.readouterr().err
    assert exited.value.code == 1
    assert reason in printed
    assert len(printed.splitlines()) == 1
