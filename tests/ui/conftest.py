# SPDX-License-Identifier: Apache-2.0
"""One Airflow, one Losant and one browser for all tests of what users see in Airflow's web pages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.emulator.seed import Seed
from example_dags.demo.checks import EXAMPLES, QUERY_TIME, REPORT_DAG, SEED
from tests.support.airflow_connection import connection
from tests.support.copied_examples import copy_examples
from tests.support.local_airflow import LocalAirflow, tails
from tests.ui.browser import Browser, Camera, chromium

if TYPE_CHECKING:
    from playwright.sync_api import Page

HERE = Path(__file__).parent
APPLICATION = "575ec8687ae143cd83dc4a97"
SILENT = "austin-plant"
"""The site whose meters have no readings, so that its notebook fails."""

SENSOR_DAG, ASSET_DAG = "losant_fire_then_wait", "losant_check_batteries"
DAG_FILES = ("losant_site_energy_report.py", "losant_fire_then_wait.py", "losant_depend_on_notebook.py")
SHORTER_INTERVALS = {
    "poke_interval=20": "poke_interval=1",
    "relative_to=": "poll_interval=1, relative_to=",
}
BATTERIES = "67b3a90ce5b1a2000d6f5e37"
# Longer than the ten seconds between two polls of a deferred task.
CHECK_UP = Script(
    queue=4, inputs=9, notebook=12, outputs=2, files={"battery-health.csv": b"vehicle,days\nvan-7,30\n"}
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that updates the screenshots of the documentation."""
    parser.addoption("--screenshots", help="the folder for the screenshots that tests/ui takes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test, give it the time that real processes need, and skip it without a browser."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.journey)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(360))
            if chromium() is None:
                item.add_marker(pytest.mark.skip(reason="no Chromium is installed"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the page, and what Airflow did, when a test fails."""
    report = yield
    given = getattr(item, "funcargs", {})
    if call.when == "call" and report.failed and {"page", "tmp_path"} <= set(given):
        page, picture = given["page"], given["tmp_path"] / "failed.png"
        page.screenshot(path=picture)
        report.sections.append(("The page", f"{page.url}, see {picture}\n{page.inner_text('body')[:4000]}"))
    if call.when == "call" and report.failed and "airflow" in given:
        report.sections.append(("Airflow's components", tails(given["airflow"].home, 15)))
    return report


@pytest.fixture(scope="package")
def losant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """Yield a Losant that several modules use."""
    with losant_of_examples(tmp_path_factory.mktemp("losant")) as emulator:
        yield emulator


@contextmanager
def losant_of_examples(folder: Path) -> Iterator[Emulator]:
    """
    Run a Losant with the notebooks of the examples, and the readings of all sites except one.

    :param folder: An empty one, for a copy of the examples.
    """
    folder = folder / "examples"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("demo", "*.py", "__pycache__"))
    readings = folder / "data" / "energy-meters.csv"
    lines = readings.read_text().splitlines(keepends=True)
    readings.write_text("".join(line for line in lines if SILENT not in line))
    with Emulator(application_id=APPLICATION) as emulator:
        Seed.load(folder / SEED.name).apply(emulator.backend, emulator.application_id)
        emulator.script(BATTERIES, CHECK_UP)
        yield emulator


@pytest.fixture(scope="package")
def airflow(losant: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    """Yield an Airflow in which some of the examples run, with shorter poll intervals."""
    dags = tmp_path_factory.mktemp("dags")
    copy_examples(dags, DAG_FILES, SHORTER_INTERVALS)
    env = {
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        # Not in the database, so that the page of connections shows only those that a test has made.
        "AIRFLOW_CONN_LOSANT_DEFAULT": json.dumps(connection(losant)),
    }
    with LocalAirflow(tmp_path_factory.mktemp("airflow"), dags, env=env) as running:
        for dag_id in (REPORT_DAG, SENSOR_DAG, ASSET_DAG):
            running.wait_for_dag(dag_id)
            running.unpause(dag_id)
            start(running, dag_id)
        yield running


def start(airflow: LocalAirflow, dag_id: str, *, days: int = 0) -> str:
    """Start the run of a DAG for the day of the sample data, or for a later one, and return its id."""
    end = QUERY_TIME + timedelta(days=days)
    interval = (end - timedelta(days=1), end)
    return airflow.trigger(dag_id, logical_date=end, data_interval=interval, run_id=f"daily_{end:%Y-%m-%d}")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Yield the browser."""
    program = chromium()
    assert program is not None
    with Browser(program) as running:
        yield running


@pytest.fixture
def page(browser: Browser, airflow: LocalAirflow, tmp_path: Path) -> Iterator[Page]:
    """
    Yield a page of the browser, which must not request anything from other hosts.

    If the test fails, a screenshot of the page is in ``tmp_path``.
    """
    browser.refused.clear()
    page = browser.open(airflow.url)
    yield page
    page.close()
    assert browser.refused == []


@pytest.fixture
def camera(request: pytest.FixtureRequest, tmp_path: Path) -> Camera:
    """Return what takes screenshots, into ``tmp_path`` unless those of the documentation are updated."""
    return Camera(folder=Path(request.config.getoption("screenshots", None) or tmp_path))
