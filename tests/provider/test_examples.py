# SPDX-License-Identifier: Apache-2.0
"""Example DAGs that need more than Losant, run by Airflow in this process."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_losant.emulator import Emulator, set_arguments
from tests.provider.conftest import IN_AIRFLOW_DATABASE, dag_bundle, set_connection
from tests.support.factories import BRIEF
from tests.support.paths import ROOT
from tests.support.smtp_server import MailServer

pytestmark = [*IN_AIRFLOW_DATABASE, pytest.mark.usefixtures("airflow_db")]

EXAMPLES = ROOT / "example_dags"
METERS = EXAMPLES / "data" / "energy-meters.csv"
QUERY_TIME = datetime(2026, 3, 5, tzinfo=UTC)


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    return tmp_path / "landing"


@pytest.fixture
def patch(losant: Emulator, landing: Path) -> Iterator[pytest.MonkeyPatch]:
    with dag_bundle(EXAMPLES) as patch:
        set_connection(patch, losant)
        patch.setenv("AIRFLOW_VAR_LOSANT_LANDING", f"file://{landing}")
        yield patch


def example(name: str) -> Any:
    """Return an example's DAG, with shorter waits."""
    made = getattr(import_module(f"example_dags.{name}"), name)()
    for task in made.tasks:
        if hasattr(task, "poll_interval"):
            set_arguments(task, deferrable=False, poll_interval=0.1)
        set_arguments(task, retries=0)
    return made


def run_example(name: str) -> Any:
    """Run an example's DAG for the query time."""
    made = example(name)
    is_3 = "logical_date" in signature(made.test).parameters
    return made.test(**{"logical_date" if is_3 else "execution_date": QUERY_TIME})


def test_a_report_is_sent_by_email_with_its_files(
    losant: Emulator, patch: pytest.MonkeyPatch, landing: Path
) -> None:
    notebook = import_module("example_dags.losant_email_report").ENERGY_REPORT
    losant.add_notebook(notebook_id=notebook)
    losant.script(notebook, BRIEF)
    with MailServer() as mail:
        extra = {"disable_ssl": True, "disable_tls": True}
        connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": mail.port, "extra": extra}
        patch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))

        run = run_example("losant_email_report")

    assert run.state == "success"
    (message,) = mail.messages
    attached = {it.get_filename(): it.get_payload(decode=True) for it in message.iter_attachments()}
    assert attached == BRIEF.files
    assert message["To"] == "energy@plant.example"
    assert sorted(it.name for it in landing.rglob("*.*")) == sorted(BRIEF.files)


def test_a_day_of_device_data_is_exported(losant: Emulator, patch: pytest.MonkeyPatch, landing: Path) -> None:
    # The emulator has the data of an input where another notebook has a sample with its name.
    losant.add_notebook("Samples", samples={METERS.name: METERS})

    run = run_example("losant_export_to_s3")

    assert run.state == "success"
    (exported,) = landing.rglob("*.csv")
    assert exported == landing / "export" / "2026-03-05" / METERS.name
    interval = run.data_interval_end
    first, last = ((interval - ago).timestamp() * 1000 for ago in (timedelta(days=1), timedelta(0)))
    with METERS.open(newline="") as rows:
        wanted = [row["energyKwh"] for row in csv.DictReader(rows) if first <= int(row["Timestamp"]) < last]
    with exported.open(newline="") as rows:
        assert [row["energyKwh"] for row in csv.DictReader(rows)] == wanted
    assert wanted
