# SPDX-License-Identifier: Apache-2.0
"""An emulator with a client for it, and a summary of what the run has shown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_losant.emulator import Emulator
from tests.contract.api_client import ApiClient
from tests.contract.open_questions import STILL_OPEN
from tests.support.client_kinds import KINDS, Driver
from tests.support.factories import BRIEF
from tests.support.surroundings import leave_surroundings


@pytest.fixture(autouse=True)
def own_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the proxies, certificates and passwords of the machine out of the tests."""
    leave_surroundings(monkeypatch)


@pytest.fixture
def losant() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def notebook(losant: Emulator) -> str:
    """Return the id of a notebook whose executions take 30 ms."""
    made = losant.add_notebook("Report")
    losant.script(made, BRIEF)
    return made


@pytest.fixture(params=KINDS)
def driver(request: pytest.FixtureRequest) -> Driver:
    return Driver(request.param)


@pytest.fixture
def client(losant: Emulator) -> Iterator[ApiClient]:
    client = ApiClient(losant)
    yield client
    client.session.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests have recorded as properties, since they may run in other processes."""
    recorded = [
        each
        for report in terminalreporter.getreports("passed")
        if report.when == "call"
        for each in report.user_properties
    ]
    if equal := {value for name, value in recorded if name == "equal operation"}:
        tail = " (upload: to the documentation)" if "notebook.upload" in equal else ""
        terminalreporter.write_line(f"{len(equal)}/11 operations equal to the official client{tail}")
    if answers := [value for name, value in recorded if name == "answered question"]:
        terminalreporter.section("Questions that the real Losant has answered")
        for answer in answers:
            terminalreporter.write_line(str(answer))
        terminalreporter.write_line("Still open:")
        for question in STILL_OPEN:
            terminalreporter.write_line(f"  {question}")
