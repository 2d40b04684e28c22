# SPDX-License-Identifier: Apache-2.0
"""A local Losant, and a plain HTTP client that knows nothing of the provider."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests

from airflow_provider_losant.emulator import Emulator
from tests.contract.open_questions import UNASKED


@dataclass
class Client:
    """Speaks to the API as any HTTP client would."""

    losant: Emulator
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.trust_env = False

    def call(self, method: str, path: str, *, token: str | None = "", **options: Any) -> requests.Response:
        """Send a request below the default application; an empty token means the default one."""
        headers = options.pop("headers", {})
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.losant.token}"
        url = f"{self.losant.url}/applications/{self.losant.application_id}{path}"
        return self.session.request(method, url, headers=headers, timeout=10, **options)

    def execute(self, notebook_id: str, **options: Any) -> str:
        answer = self.call("POST", f"/notebooks/{notebook_id}/execute", json=options)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["executionId"])

    def cancel(self, notebook_id: str, execution_id: str) -> requests.Response:
        return self.call(
            "POST", f"/notebooks/{notebook_id}/cancelExecution", params={"executionId": execution_id}
        )

    def logs(self, notebook_id: str, **query: Any) -> list[dict[str, Any]]:
        answer = self.call("GET", f"/notebooks/{notebook_id}/logs", params=query)
        assert answer.status_code == 200, answer.text
        entries: list[dict[str, Any]] = answer.json()
        return entries

    def wait(self, notebook_id: str, status: str | None = None, within: float = 25) -> dict[str, Any]:
        """Watch the newest execution until it has ended, or has the status."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            entry = self.logs(notebook_id)[0]
            if entry["status"] == status or (
                status is None and entry["status"] not in ("queued", "inProgress", "canceling")
            ):
                return entry
            time.sleep(0.02)
        pytest.fail(f"still {entry['status']} after {within} s")

    def file(self, entry: dict[str, Any], name: str, kind: str = "outputInfo") -> str:
        answer = self.session.get(entry[kind][name]["url"], timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.text


@pytest.fixture
def losant() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def client(losant: Emulator) -> Iterator[Client]:
    made = Client(losant)
    yield made
    made.session.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the run has shown; a test records it, as it may run in another process than this."""
    recorded = [
        it
        for report in terminalreporter.getreports("passed")
        if report.when == "call"
        for it in report.user_properties
    ]
    if equal := {value for name, value in recorded if name == "equal operation"}:
        tail = " (upload: to the documentation)" if "notebook.upload" in equal else ""
        terminalreporter.write_line(f"{len(equal)}/11 operations equal to the official client{tail}")
    if answers := [value for name, value in recorded if name == "answered question"]:
        terminalreporter.section("Questions that the real Losant has answered")
        for answer in answers:
            terminalreporter.write_line(str(answer))
        terminalreporter.write_line("Still open:")
        for question in UNASKED:
            terminalreporter.write_line(f"  {question}")
