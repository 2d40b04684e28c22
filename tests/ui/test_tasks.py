# SPDX-License-Identifier: Apache-2.0
"""A user views tasks that run notebooks, with their logs and results, and stops one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from airflow_provider_losant.emulator import Emulator, Request, Script
from example_dags.demo.checks import QUERY_TIME, REPORT_DAG, REPORT_NOTEBOOK, REPORT_TASK
from tests.support.journey import wait_for_late_requests
from tests.support.processes import wait_for
from tests.ui.browser import VIEWPORT
from tests.ui.conftest import APPLICATION, ASSET_DAG, BATTERIES, SENSOR_DAG, SILENT, start

if TYPE_CHECKING:
    from tests.support.local_airflow import LocalAirflow
    from tests.ui.browser import Camera

pytestmark = [pytest.mark.airflow(since="3.3"), pytest.mark.xdist_group("other-airflow")]

RUN = f"daily_{QUERY_TIME:%Y-%m-%d}"
HAMBURG, LYON, AUSTIN = range(3)
ENDLESS = Script(queue=1, inputs=1, ending="hang")
NOTEBOOKS = f"https://app.losant.com/applications/{APPLICATION}/notebooks"
TALL = ViewportSize(width=VIEWPORT["width"], height=880)
HEAD, LOG = 350, 720
"""Pixels down to the links of a task, and to the end of its log."""


def test_a_mark_in_the_ui_cancels_the_execution_of_that_deferred_task_and_no_other(
    page: Page, airflow: LocalAirflow, losant: Emulator, camera: Camera
) -> None:
    airflow.wait_for_run(REPORT_DAG, RUN, timeout=180)
    others = {it["id"] for it in losant.executions(REPORT_NOTEBOOK)}
    losant.script(REPORT_NOTEBOOK, ENDLESS)
    run_id = start(airflow, REPORT_DAG, days=1)
    place = (REPORT_DAG, run_id, REPORT_TASK)
    for index in (HAMBURG, LYON, AUSTIN):
        airflow.wait_for_task(*place, lambda it: bool(it["state"] == "deferred"), map_index=index)
    # If a task is marked before its trigger has started, the sweep cancels, not the trigger. The triggers
    # share their polls, so the first ones may be those of another task.
    polls = len(requests_to(losant, "logs"))
    wait_for(lambda: len(requests_to(losant, "logs")) > polls + 3, what="polls of all triggers", timeout=60)

    page.goto(f"/dags/{REPORT_DAG}/runs/{run_id}/tasks/{REPORT_TASK}/mapped/{LYON}/details")
    expect(page.get_by_test_id("header-card").get_by_text("Deferred")).to_be_visible()
    link = page.get_by_role("link", name="Open in Losant")
    expect(link).to_have_attribute("href", f"{NOTEBOOKS}/{REPORT_NOTEBOOK}")
    expect(page.locator(f"a[href*='{run_id}/tasks/{REPORT_TASK}/mapped'] svg").first).to_be_visible()
    camera("deferred-task", page, height=HEAD)
    page.get_by_role("button", name="Mark Task Instance as...").click()
    page.get_by_role("menuitem", name="Failed").click()
    expect(page.get_by_text("Affected Tasks: 1")).to_be_visible()
    page.get_by_role("button", name="Confirm").click()

    started = [it for it in losant.executions(REPORT_NOTEBOOK) if it["id"] not in others]
    (lyon,) = [it["id"] for it in started if '"lyon-depot"' in it["templateContext"]]
    wait_for(lambda: cancelled(losant), what="a cancel", timeout=60)
    wait_for_late_requests()
    assert cancelled(losant) == [lyon]
    now = {it["id"]: it["status"] for it in losant.executions(REPORT_NOTEBOOK) if it["id"] not in others}
    assert now == {it["id"]: "canceled" if it["id"] == lyon else "inProgress" for it in started}


def test_the_log_of_a_failed_task_shows_the_notebooks_own_error(
    page: Page, airflow: LocalAirflow, camera: Camera
) -> None:
    assert airflow.wait_for_run(REPORT_DAG, RUN, timeout=180) == "failed"

    page.set_viewport_size(TALL)
    page.goto(f"/dags/{REPORT_DAG}/runs/{RUN}/tasks/{REPORT_TASK}/mapped/{AUSTIN}?log_level=error")

    reason = f"ValueError: No meter of {SILENT} has reported anything in these 24 hours."
    traceback = page.get_by_text("The end of the execution's error log:")
    expect(traceback).to_contain_text('raise ValueError(f"No meter of {site} has reported')
    expect(traceback).to_contain_text(reason)
    page.get_by_text("NotebookExecutionFailed: ").click()  # collapses Airflow's own traceback
    camera("log-failed", page)


def test_the_log_of_a_sensor_shows_each_phase_with_its_duration_and_the_sensor_leads_to_losant(
    page: Page, airflow: LocalAirflow, camera: Camera
) -> None:
    assert airflow.wait_for_run(SENSOR_DAG, RUN, timeout=180) == "success"

    page.goto(f"/dags/{SENSOR_DAG}/runs/{RUN}/tasks/health")

    expect(page.get_by_text(re.compile(r"inProgress: .+ \(queue 4 s, ")).first).to_be_visible()
    spent = "queue 4 s, inputs 9 s, notebook 12 s, outputs 2 s; 0.2 of 5 run minutes"
    for ending in (f"completed ({spent})", f"completed after 27 s ({spent})"):
        expect(page.get_by_text(ending)).to_be_visible()
    camera("log-phases", page, height=LOG)
    page.get_by_role("link", name="Details").click()
    link = page.get_by_role("link", name="Open in Losant")
    expect(link).to_have_attribute("href", f"{NOTEBOOKS}/{BATTERIES}")


def test_while_a_sensor_is_deferred_the_task_that_submitted_the_execution_has_ended(
    page: Page, airflow: LocalAirflow, losant: Emulator, camera: Camera
) -> None:
    for dag_id in (SENSOR_DAG, ASSET_DAG):
        airflow.wait_for_run(dag_id, RUN, timeout=180)  # they run the same notebook
    losant.script(BATTERIES, ENDLESS)
    run_id = start(airflow, SENSOR_DAG, days=1)
    airflow.wait_for_task(SENSOR_DAG, run_id, "health", lambda it: bool(it["state"] == "deferred"))

    page.goto(f"/dags/{SENSOR_DAG}/runs/{run_id}")

    tasks = page.get_by_role("row")
    expect(tasks.filter(has_text="start").filter(has_text="Success")).to_be_visible()
    expect(tasks.filter(has_text="health").filter(has_text="Deferred")).to_be_visible()
    camera("deferred-sensor", page)


def test_the_result_of_a_task_is_on_its_page(page: Page, airflow: LocalAirflow) -> None:
    airflow.wait_for_run(REPORT_DAG, RUN, timeout=180)

    page.goto(f"/dags/{REPORT_DAG}/runs/{RUN}/tasks/{REPORT_TASK}/mapped/{HAMBURG}/xcom")

    page.get_by_role("button", name="Expand all extra JSON").click()
    result = page.get_by_role("row").filter(has_text="return_value")
    expect(result).to_contain_text(re.compile(r'"status":\s*"completed"'))


def test_the_page_of_an_asset_shows_which_execution_brought_it_up_to_date(
    page: Page, airflow: LocalAirflow, losant: Emulator, camera: Camera
) -> None:
    assert airflow.wait_for_run(ASSET_DAG, RUN, timeout=180) == "success"
    execution_id = airflow.xcom(ASSET_DAG, RUN, "check")["execution_id"]
    (asset,) = airflow.request("GET", "/assets")["assets"]

    page.goto(f"/assets/{asset['id']}")

    expect(page.get_by_text("1 Asset Event")).to_be_visible()
    page.locator(".codicon-folding-collapsed").first.click()  # expands the event
    expect(page.get_by_text(execution_id)).to_be_visible()
    camera("asset", page)


def requests_to(losant: Emulator, operation: str) -> list[Request]:
    """Return the requests of one operation on the notebook of the report."""
    requests = [it for it in losant.requests if it.operation == f"notebook.{operation}"]
    return [it for it in requests if REPORT_NOTEBOOK in it.path]


def cancelled(losant: Emulator) -> list[str]:
    """Return the executions of the report for which Losant received a cancel."""
    return [it.query["executionId"] for it in requests_to(losant, "cancelExecution")]
