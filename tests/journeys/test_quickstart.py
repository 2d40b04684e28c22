# SPDX-License-Identifier: Apache-2.0
"""Following the quickstart exactly, in an empty environment, leads to a finished run."""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
from ast import literal_eval
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from airflow_provider_losant.hooks.losant import LosantHook
from tests.support.airflow_api import AirflowApi
from tests.support.airflow_versions import CONSTRAINTS, NEWEST
from tests.support.installed import build, run
from tests.support.paths import ROOT
from tests.support.processes import wait_for
from tests.support.quickstart_reader import Section, Shell

pytestmark = [pytest.mark.airflow(since=NEWEST), pytest.mark.xdist_group("other-airflow")]

QUICKSTART = Section.sections(ROOT / "docs" / "get-started" / "quickstart.md")
TYPED = ("Install", "Run it", "See it in the UI")
SAVED = "Save three files"
ACCOUNT = "With your own account"
PORTS = (8080, 8099)
INSTALLING = 900
"""Seconds for the slowest command, on a machine that is busy with other tests."""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Yield a shell with a minimal environment, in which pip finds this package."""
    if taken := [port for port in PORTS if _is_taken(port)]:
        pytest.skip(f"port {taken}, which the page uses, is taken")
    dist = tmp_path_factory.mktemp("dist")
    build(ROOT, dist)
    home = tmp_path_factory.mktemp("reader")
    environment = {"LANG": "C.UTF-8", "PATH": f"{sys.base_prefix}/bin:/usr/bin:/bin"}
    with Shell(home, environment | _pip_that_finds(dist)) as typed:
        yield typed


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _pip_that_finds(dist: Path) -> dict[str, str]:
    """Return this machine's pip settings as environment, with our package and the tested versions."""
    known = re.findall(
        r"^(?:global|install)\.([\w-]+)=(.*)$",
        run(sys.executable, "-m", "pip", "config", "list"),
        re.MULTILINE,
    )
    settings = {f"PIP_{name.upper().replace('-', '_')}": literal_eval(value) for name, value in known}
    settings |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    settings["PIP_FIND_LINKS"] = f"{settings.get('PIP_FIND_LINKS', '')} {dist}".strip()
    return settings | {"PIP_CONSTRAINT": str(CONSTRAINTS[NEWEST])}


@pytest.mark.timeout(INSTALLING + 180)
def test_the_quickstart_leads_to_a_finished_run(shell: Shell) -> None:
    for title in ("Install", SAVED, "Run it"):
        shell.save(QUICKSTART[title].files)
        for command in QUICKSTART[title].commands:
            shell.type(command, timeout=INSTALLING)

    assert QUICKSTART["Run it"].commands[-1].shown.startswith("Energy of hamburg-harbour")


@pytest.mark.timeout(480)
def test_the_dag_is_tested_as_the_guide_shows(shell: Shell) -> None:
    guide = Section.sections(ROOT / "docs" / "guides" / "local-emulator.md")["Test your DAGs"]

    shell.save(guide.files)
    *_, output = [shell.type(command, timeout=240) for command in guide.commands]

    assert re.search(r"^=+ 3 passed\b", output, re.MULTILINE)


@pytest.mark.timeout(720)
def test_the_ui_shows_the_run_and_starts_another_one(shell: Shell) -> None:
    *starting, interrupting, waiting, stopping = QUICKSTART["See it in the UI"].commands
    airflow = AirflowApi("http://127.0.0.1:8080")

    def is_healthy() -> bool:
        with suppress(requests.RequestException):
            return set(airflow.health().values()) == {"healthy"}
        return False

    for command in starting:
        shell.type(command, timeout=10)
    wait_for(is_healthy, what="Airflow", timeout=240)
    airflow.wait_for_dag("energy_report")
    airflow.unpause("energy_report")
    oldest, *_ = airflow.dag_runs("energy_report")
    another = airflow.trigger("energy_report", logical_date=datetime.now(UTC))  # as the form of the page does
    ended = airflow.wait_for_run("energy_report", another, timeout=180)
    for command in (interrupting, waiting, stopping):
        shell.type(command, timeout=120)

    assert oldest["logical_date"].startswith("2026-03-02")
    assert (oldest["state"], ended) == ("success", "success")
    wait_for(lambda: not shell.left_behind(), what="everything to end", timeout=60)


def test_the_connection_to_an_account_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    export = QUICKSTART[ACCOUNT].commands[0].text
    (name, _, value) = shlex.split(export)[1].partition("=")

    monkeypatch.setenv(name, value)

    settings = LosantHook().settings

    assert settings.base_url == "https://api.losant.com"
    assert settings.application_id is not None


def test_all_other_commands_need_an_account() -> None:
    assert {title for title, page in QUICKSTART.items() if page.commands} == {*TYPED, ACCOUNT}
    assert {title for title, page in QUICKSTART.items() if page.files} == {SAVED}
