# SPDX-License-Identifier: Apache-2.0
"""
Real Airflow processes and an emulated Losant, which see each other over sockets only.

Most journeys run in one Airflow that all workers of pytest-xdist share, each with a Losant of its own. Those
that stop components of an Airflow share a second one, and those whose DAGs start by themselves a third one.
The others start their own. They are in two groups, each of which runs in one worker, so that at most three
Airflows run at the same time.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from packaging.version import Version

from airflow_provider_losant.emulator import Emulator
from airflow_provider_losant.emulator.seed import Seed
from example_dags.demo.checks import SEED
from tests.journeys import shared_airflow as shared
from tests.journeys.shared_airflow import AIRFLOW, HERE, local_airflow
from tests.support.airflow_connection import connection
from tests.support.copied_examples import copy_examples
from tests.support.journey import Journey, RunningAirflow, RunningAirflow2, running
from tests.support.local_airflow import LocalAirflow, tails
from tests.support.network import Proxy
from tests.support.postgres import best_database
from tests.support.shared_process import one_of, use
from tests.support.statsd import StatsdServer

PROXY_PASSWORD = "p@ss/word:1"
AT_ONCE_ON_SQLITE = 2
"""Journeys that run at the same time where Airflow's processes lock each other out of their database."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark, skip and sort the journeys, and give each the time that real processes need."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.journey)
            # Without fixtures: starting an Airflow has limits of its own.
            item.add_marker(pytest.mark.timeout(420, func_only=True))
            if reason := _reason_to_skip(item):
                item.add_marker(pytest.mark.skip(reason=reason))
    # First, because they take longest, and together, so that they find the shared Airflow running.
    items.sort(key=lambda item: HERE not in item.path.parents)


def _reason_to_skip(item: pytest.Item) -> str | None:
    """Return why a journey does not run on this Airflow; None if it does."""
    if marker := item.get_closest_marker("every_airflow"):
        return marker.kwargs.get("not_3_0") if AIRFLOW.release[:2] == (3, 0) else None
    if AIRFLOW.major < 3:
        return "on Airflow 2 only the journeys for every Airflow run"
    if Version("3.3") > AIRFLOW and {"journey", "own_journey"} & set(getattr(item, "fixturenames", ())):
        return "below Airflow 3.3 only the journeys for every Airflow run"
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what Airflow and Losant did when a journey fails."""
    report = yield
    if report.failed:
        used = getattr(item, "funcargs", {}).values()
        for airflow in (it for it in used if isinstance(it, LocalAirflow | RunningAirflow)):
            logs = sorted((airflow.home / "logs").rglob("attempt=*"), key=lambda path: path.stat().st_mtime)
            for log in logs[-3:]:
                report.sections.append((f"{log.relative_to(airflow.home)}", log.read_text()[-4000:]))
            report.sections.append(("Airflow's components", tails(airflow.home, 15)))
        for journey in (it for it in used if isinstance(it, Journey)):
            report.sections.append(("The journey", journey.report()))
    return report


@pytest.fixture(scope="package")
def airflow(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[RunningAirflow]:
    """Yield the Airflow that all workers share."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder if worker_id == "master" else folder.parent) / "shared-airflow"
    with use(folder, shared.__name__) as its:
        kind = RunningAirflow2 if AIRFLOW.major < 3 else RunningAirflow
        yield kind(its["url"], Path(its["home"]), is_sqlite=its["is_sqlite"])


@pytest.fixture(scope="package")
def losant(airflow: RunningAirflow) -> Iterator[Emulator]:
    """Yield the Losant of the examples in the shared Airflow; the tests that use it are one group."""
    with seeded_losant() as emulator:
        airflow.add_connection("losant_default", **connection(emulator))
        yield emulator
        airflow.request("DELETE", "/connections/losant_default")


@pytest.fixture
def journey(airflow: RunningAirflow, tmp_path: Path) -> Iterator[Journey]:
    """Yield what a journey in the shared Airflow needs."""
    room = one_of(AT_ONCE_ON_SQLITE, airflow.home / "slots") if airflow.is_sqlite else nullcontext()
    with room, Journey(airflow, tmp_path) as its:
        yield its


@pytest.fixture(scope="package")
def statsd() -> Iterator[StatsdServer]:
    """Yield the server for the metrics of the Airflow whose components a test may stop."""
    with StatsdServer("airflow.losant.") as server:
        yield server


@pytest.fixture(scope="package")
def proxy() -> Iterator[Proxy]:
    """Yield the proxy by which that Airflow reaches other hosts than this one."""
    with Proxy(names={}, user="airflow", password=PROXY_PASSWORD) as running:
        yield running


@pytest.fixture(scope="package")
def own_airflow(
    tmp_path_factory: pytest.TempPathFactory, statsd: StatsdServer, proxy: Proxy
) -> Iterator[LocalAirflow]:
    """Yield an Airflow whose components a test may stop; it sends metrics, and logs as much as it can."""
    settings = statsd_settings(statsd) | {
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "http_proxy": proxy.url,
        "https_proxy": proxy.url,
    }
    home = tmp_path_factory.mktemp("airflow")
    with best_database() as database, local_airflow(home, database, settings) as its:
        yield its


@pytest.fixture
def own_journey(own_airflow: LocalAirflow, tmp_path: Path) -> Iterator[Journey]:
    """Yield what a journey in an Airflow of its own needs."""
    with Journey(running(own_airflow), tmp_path) as its:
        yield its


@pytest.fixture(scope="package")
def scheduling_losant() -> Iterator[Emulator]:
    """Yield the Losant of the Airflow that starts DAGs; the tests that use it are one group."""
    with seeded_losant() as emulator:
        yield emulator


@pytest.fixture(scope="package")
def scheduling_airflow(
    scheduling_losant: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalAirflow]:
    """
    Yield an Airflow that starts DAGs by assets and by time, and writes each lineage event into a file.

    Its DAGs are some of the examples, with shorter poll intervals. That of the report has no schedule.
    """
    dags, home = tmp_path_factory.mktemp("dags"), tmp_path_factory.mktemp("scheduling")
    names = ("losant_depend_on_notebook.py", "losant_react_to_notebook.py")
    copy_examples(dags, names, {"poll_interval=60": "poll_interval=1"})
    copy_examples(dags, ("losant_site_energy_report.py",), {'schedule="@daily"': "schedule=None"})
    transport = {"type": "file", "log_file_path": str(home / "event")}
    settings = {
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
    }
    with LocalAirflow(home, dags, env=shared.FAST_DETECTION | settings) as running:
        running.add_connection("losant_default", **connection(scheduling_losant))
        yield running


def statsd_settings(server: StatsdServer) -> dict[str, str]:
    """Return the environment in which Airflow sends metrics to a server."""
    return {
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(server.port),
        "AIRFLOW__METRICS__STATSD_PREFIX": "airflow",
        "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
    }


@contextmanager
def seeded_losant() -> Iterator[Emulator]:
    """Run a Losant that has the notebooks of the examples."""
    seed = Seed.load(SEED)
    with Emulator() as emulator:
        seed.apply(emulator.backend, emulator.application_id)
        yield emulator
