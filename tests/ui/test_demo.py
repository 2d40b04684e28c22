# SPDX-License-Identifier: Apache-2.0
"""A user starts the demo, presses *Trigger* and *Test* in Airflow's web pages, and both succeed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from example_dags.demo.checks import REPORT_DAG
from tests.support.airflow_api import AirflowApi
from tests.support.paths import ROOT
from tests.support.processes import wait_for
from tests.ui.test_connection import press_test

if TYPE_CHECKING:
    from pathlib import Path

    from tests.ui.browser import Browser

STARTING, RUNNING, STOPPING = 900, 300, 60
"""Seconds that each may take on two busy cores; the demo builds its environment first, unless it exists."""

pytestmark = [
    pytest.mark.airflow(since="3.3"),
    pytest.mark.xdist_group("other-airflow"),
    pytest.mark.timeout(STARTING + 3 * RUNNING),
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the demo with ``--keep``, and yield the address of its Airflow."""
    printed = tmp_path_factory.mktemp("demo") / "printed.txt"
    command = [sys.executable, "-m", "example_dags.demo", "--keep"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    with (
        printed.open("wb") as output,
        subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        ) as process,
    ):
        try:
            yield wait_for(lambda: address(process, printed), what="the demo", timeout=STARTING)
            process.send_signal(signal.SIGINT)
            process.wait(STOPPING)
            assert "All checks passed" in printed.read_text()
        finally:
            with suppress(ProcessLookupError):
                process.terminate()


def address(process: subprocess.Popen[bytes], printed: Path) -> str | None:
    """Return the address of Airflow that the demo has printed; None if it has not yet."""
    text = printed.read_text()
    assert process.poll() is None, text
    kept = "Ctrl-C stops everything" in text
    return re.findall(r"Airflow +(http\S+)", text)[0] if kept else None


@pytest.fixture
def page(browser: Browser, demo: str) -> Iterator[Page]:
    """Yield a page of the demo's Airflow, which must not request anything from other hosts."""
    browser.refused.clear()
    page = browser.open(demo)
    yield page
    page.close()
    assert browser.refused == []


def test_a_dag_of_the_demo_that_is_triggered_in_the_ui_succeeds(page: Page, demo: str) -> None:
    airflow = AirflowApi(demo)
    earlier = [it["dag_run_id"] for it in airflow.dag_runs(REPORT_DAG)]

    page.goto(f"/dags/{REPORT_DAG}")
    page.get_by_role("button", name="Trigger Dag").first.click()
    page.get_by_role("dialog").get_by_test_id("trigger-dag-submit").click()

    def started() -> str | None:
        return next(
            (it for run in airflow.dag_runs(REPORT_DAG) if (it := run["dag_run_id"]) not in earlier), None
        )

    run_id = wait_for(started, what="a DAG run", timeout=60)
    assert airflow.wait_for_run(REPORT_DAG, run_id, timeout=RUNNING) == "success"
    page.goto(f"/dags/{REPORT_DAG}/runs/{run_id}")
    expect(page.get_by_text("Success").first).to_be_visible()


def test_a_dag_of_the_demo_that_is_triggered_without_a_logical_date_succeeds(demo: str) -> None:
    airflow = AirflowApi(demo)

    run_id = airflow.trigger(REPORT_DAG)

    assert airflow.wait_for_run(REPORT_DAG, run_id, timeout=RUNNING) == "success"
    assert airflow.dag_run(REPORT_DAG, run_id)["logical_date"] is None


def test_the_connection_of_the_demo_can_be_tested(page: Page) -> None:
    page.goto("/connections")

    press_test(page, "losant_default")

    expect(page.get_by_text("Test Connection Successful")).to_be_visible()
