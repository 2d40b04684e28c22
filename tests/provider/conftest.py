# SPDX-License-Identifier: Apache-2.0
"""A scripted Losant, an Airflow connection that leads to it, and no proxies but those of a test."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator

import pytest

from airflow_provider_losant.emulator import Emulator, Script
from tests.support.client_kinds import KINDS, Driver

BRIEF = Script(notebook=0.03, files={"result.html": b"<p>42</p>", "out.csv": b"site,kwh\nnorth,42\n"})


@pytest.fixture(autouse=True)
def own_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's proxies, certificates and passwords out of the tests."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def losant() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def notebook(losant: Emulator) -> str:
    """Return the id of a notebook whose runs take next to no time."""
    made = losant.add_notebook("Report")
    losant.script(made, BRIEF)
    return made


@pytest.fixture(params=KINDS)
def driver(request: pytest.FixtureRequest) -> Driver:
    return Driver(request.param)


@pytest.fixture
def connection(losant: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make an Airflow connection to the emulator; returns its id."""
    connect(monkeypatch, losant)
    return "losant_default"


Told = Callable[[], str]


@pytest.fixture
def told(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Told:
    """Return what gives a task's log so far, by whichever way this Airflow writes it."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(logging.getLogger("airflow.task"), "propagate", True)
    return lambda: caplog.text or "".join(capsys.readouterr())


def connect(
    monkeypatch: pytest.MonkeyPatch,
    losant: Emulator,
    conn_id: str = "losant_default",
    extra: dict[str, object] | None = None,
    **fields: object,
) -> None:
    """Make, or change, an Airflow connection that leads to the emulator."""
    told = {
        "conn_type": "losant",
        "host": losant.url,
        "password": losant.token,
        "extra": {"application_id": losant.application_id, "max_retries": 1, **(extra or {})},
        **fields,
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(told))
