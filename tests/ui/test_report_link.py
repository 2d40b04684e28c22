# SPDX-License-Identifier: Apache-2.0
"""A reader opens the report of a task from Airflow, and no user gets more than that from the route."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest
import requests
from playwright.sync_api import Page, expect

from airflow_provider_losant.emulator import Emulator, Script
from example_dags.demo.checks import REPORT_DAG, REPORT_NOTEBOOK, REPORT_TASK
from tests.support.airflow_connection import connection
from tests.support.copied_examples import copy_examples
from tests.support.local_airflow import LocalAirflow
from tests.support.processes import free_port
from tests.ui.auth_manager import ADMIN, READER, STRANGER, USERS
from tests.ui.conftest import BATTERIES, CHECK_UP, SENSOR_DAG, SHORTER_INTERVALS, losant_of_examples, start
from tests.ui.second_server import second_server

if TYPE_CHECKING:
    from tests.ui.browser import Browser, Camera

pytestmark = [pytest.mark.airflow(since="3.1"), pytest.mark.xdist_group("other-airflow")]

HAMBURG, AUSTIN = 0, 2
CONN_ID = "losant_default"
REQUEST_TIMEOUT = 60
DETAILS = 420
"""Pixels down to the links of a task."""


class AirflowWithUsers(LocalAirflow):
    """An Airflow that is used by an administrator, a reader, and a reader of other DAGs."""

    def token(self, user: str) -> str:
        """Log a user in, and return the token that is the cookie of a session."""
        body = {"username": user, "password": user}
        response = requests.post(f"{self.url}/auth/token", json=body, timeout=REQUEST_TIMEOUT)
        response.raise_for_status()
        return str(response.json()["access_token"])

    def _log_in(self) -> None:
        self._http.headers["Authorization"] = f"Bearer {self.token(ADMIN)}"


@pytest.fixture(scope="module")
def losant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """Yield a Losant of its own, because a test deletes a notebook; the short notebook has no report."""
    with losant_of_examples(tmp_path_factory.mktemp("losant")) as emulator:
        emulator.script(BATTERIES, Script(notebook=1, files=CHECK_UP.files))
        yield emulator


@pytest.fixture(scope="module")
def airflow(losant: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowWithUsers]:
    """Yield an Airflow with users and report links, in which one DAG has made reports, and another none."""
    dags = tmp_path_factory.mktemp("dags")
    copy_examples(dags, ("losant_site_energy_report.py", "losant_fire_then_wait.py"), SHORTER_INTERVALS)
    home = tmp_path_factory.mktemp("airflow")
    (home / "passwords.json").write_text(json.dumps({it: it for it in (ADMIN, READER, STRANGER)}))
    env = {
        "AIRFLOW__CORE__AUTH_MANAGER": "tests.ui.auth_manager.PerDagAuthManager",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": USERS,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__LOSANT__REPORT_LINKS": "True",
    }
    with AirflowWithUsers(home, dags, env=env) as running:
        running.add_connection(CONN_ID, **connection(losant, app_url=losant.app_url))
        for dag_id in (REPORT_DAG, SENSOR_DAG):
            running.wait_for_dag(dag_id)
            running.unpause(dag_id)
            start(running, dag_id)
        yield running


@pytest.fixture(scope="module")
def run_id(airflow: AirflowWithUsers) -> str:
    """Return the run that has made the reports: of three sites, one has failed."""
    (run,) = airflow.dag_runs(REPORT_DAG)
    assert airflow.wait_for_run(REPORT_DAG, run["dag_run_id"], timeout=300) == "failed"
    return str(run["dag_run_id"])


def report_path(
    run_id: str, map_index: object = HAMBURG, try_number: object = 1, *, dag: str = REPORT_DAG
) -> str:
    return f"/losant/report/{dag}/{quote(run_id, safe='')}/{REPORT_TASK}/{map_index}/{try_number}"


@pytest.fixture(scope="module")
def get(airflow: AirflowWithUsers) -> Callable[..., requests.Response]:
    """Return a function that requests a path as a user's browser would, and follows no redirect."""
    tokens: dict[str, str] = {}

    def request(
        path: str, user: str | None, method: str = "GET", url: str = airflow.url
    ) -> requests.Response:
        if user and user not in tokens:
            tokens[user] = airflow.token(user)
        cookies = {"_token": tokens[user]} if user else {}
        return requests.request(
            method, f"{url}{path}", cookies=cookies, allow_redirects=False, timeout=REQUEST_TIMEOUT
        )

    return request


def another_server(
    airflow: LocalAirflow, name: str, prefix: str = "", **env: str
) -> AbstractContextManager[str]:
    """Run a second API server of an Airflow with other settings, and yield its address."""
    return second_server(
        airflow,
        name,
        ("api-server", "--host", "127.0.0.1"),
        setting="AIRFLOW__API__BASE_URL",
        health="/api/v2/monitor/health",
        env=env,
        prefix=prefix,
    )


@pytest.fixture
def page(browser: Browser, airflow: AirflowWithUsers) -> Iterator[Page]:
    """
    Yield a page of the browser in which the reader is logged in.

    It may request other hosts, which get nothing: a rendered notebook loads libraries of Jupyter.
    """
    page = browser.open(airflow.url)
    page.context.add_cookies([{"name": "_token", "value": airflow.token(READER), "url": airflow.url}])
    yield page
    page.context.clear_cookies()
    page.close()


@pytest.mark.airflow(since="3.3")
def test_a_viewer_gets_the_page_with_the_plot_from_the_file_host_which_sees_no_credentials(
    page: Page, run_id: str, losant: Emulator, camera: Camera
) -> None:
    sent: list[dict[str, str]] = []
    page.on(
        "request", lambda it: sent.append(it.all_headers()) if it.url.startswith(losant.files_url) else None
    )
    page.goto(f"/dags/{REPORT_DAG}/runs/{run_id}/tasks/{REPORT_TASK}/mapped/{HAMBURG}/details")
    link = page.get_by_role("link", name="Open report")
    expect(link).to_be_visible()
    expect(page.locator(f"a[href*='{run_id}/tasks/{REPORT_TASK}/mapped'] svg").first).to_be_visible()
    camera("report-link", page, height=DETAILS)

    link.click()

    page.wait_for_url(re.compile(re.escape(losant.files_url)))
    expect(page.get_by_text("Site: hamburg-harbour")).to_be_visible()
    assert page.locator("img").first.evaluate("it => it.complete && it.naturalWidth") > 0
    assert sent != []
    assert [it for it in sent if {"authorization", "referer"} & set(it)] == []


@pytest.mark.airflow(since="3.3")
def test_open_in_losant_leads_to_the_executions_of_the_local_losant(
    page: Page, run_id: str, losant: Emulator
) -> None:
    page.goto(f"/dags/{REPORT_DAG}/runs/{run_id}/tasks/{REPORT_TASK}/mapped/{HAMBURG}/details")
    address = page.get_by_role("link", name="Open in Losant").get_attribute("href")
    assert address is not None

    page.goto(address)

    row = page.get_by_role("row").filter(has_text="completed").first
    row.get_by_role("link", name="result.html").click()
    expect(page.get_by_text("Energy: ").last).to_be_visible()


def test_a_redirect_is_neither_stored_nor_tells_the_file_host_where_the_reader_came_from(
    get: Callable[..., requests.Response], run_id: str, losant: Emulator
) -> None:
    response = get(report_path(run_id), READER)

    assert response.status_code == 302
    assert urlsplit(response.headers["Location"])._replace(path="", query="").geturl() == losant.files_url
    assert "/outputs/result.html?" in response.headers["Location"]
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.content == b""


def test_the_report_of_a_failed_execution_without_one_is_its_error_log(
    get: Callable[..., requests.Response], airflow: AirflowWithUsers, run_id: str
) -> None:
    link = airflow.links(REPORT_DAG, run_id, REPORT_TASK, map_index=AUSTIN)["Open report"]

    response = get(f"/{link}", READER)

    address = urlsplit(response.headers["Location"])
    assert address.path.rpartition("/")[2] in {"result.html", "result.error.log"}
    assert requests.get(address.geturl(), timeout=REQUEST_TIMEOUT).ok


def test_a_task_whose_execution_has_no_report_has_no_link(airflow: AirflowWithUsers) -> None:
    (run,) = airflow.dag_runs(SENSOR_DAG)
    assert airflow.wait_for_run(SENSOR_DAG, run["dag_run_id"], timeout=180) == "success"

    links = airflow.links(SENSOR_DAG, run["dag_run_id"], "health")

    assert links["Open report"] is None
    assert links["Open in Losant"] is not None


def test_without_a_session_the_route_asks_to_log_in(
    get: Callable[..., requests.Response], run_id: str
) -> None:
    for path in (report_path(run_id), report_path("no such run"), report_path(run_id, dag="no_such_dag")):
        response = get(path, None)

        assert (response.status_code, "Location" in response.headers) == (401, False)
        assert "Log in to Airflow" in response.text


def test_who_may_not_read_a_dag_gets_none_of_its_reports(
    get: Callable[..., requests.Response], run_id: str, losant: Emulator
) -> None:
    losant.clear_requests()

    for path in (report_path(run_id), f"{report_path(run_id)}?dag_id={SENSOR_DAG}"):
        response = get(path, STRANGER)
        assert (response.status_code, "Location" in response.headers) == (403, False)

    assert losant.requests == []


def test_the_run_of_another_dag_cannot_be_reached_by_editing_the_url(
    get: Callable[..., requests.Response], run_id: str, losant: Emulator
) -> None:
    losant.clear_requests()
    foreign = report_path(run_id, dag=SENSOR_DAG)  # a DAG that the stranger may read
    malformed = [
        report_path("no_such_run"),
        report_path(run_id, 99),
        report_path(run_id, "0x0"),
        report_path(run_id, "-2"),
        report_path(run_id, "9" * 30),
        report_path(run_id, HAMBURG, 2),
        report_path(run_id, HAMBURG, 0),
        report_path(run_id, HAMBURG, "x"),
        report_path(run_id, dag="no_such_dag"),
        report_path(run_id, dag="~"),
        report_path("%00"),
        "/losant/report/",
        "/losant/report",
        "/losant/openapi.json",
        "/losant/docs",
        f"{report_path(run_id)}/",
        f"{report_path(run_id)}/more",
    ]

    responses = [get(f"{foreign}?dag_id={REPORT_DAG}", STRANGER), *(get(it, READER) for it in malformed)]

    assert [it.status_code for it in responses] == [404] * len(responses)
    assert {it.text for it in responses} == {responses[0].text}
    assert losant.requests == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_a_report_can_only_be_opened(
    get: Callable[..., requests.Response], run_id: str, method: str, losant: Emulator
) -> None:
    losant.clear_requests()

    assert get(report_path(run_id), READER, method=method).status_code == 405
    assert losant.requests == []


def test_a_reader_is_told_in_plain_words_why_there_is_no_report_now(
    get: Callable[..., requests.Response], airflow: AirflowWithUsers, run_id: str, losant: Emulator
) -> None:
    given = connection(losant)
    closed = f"http://127.0.0.1:{free_port()}"
    broken = {
        "refuses the API token": {"password": losant.add_token(expired=True)},
        "may not be allowed to reach it": {"host": closed},
        "cannot use the connection": {"conn_type": "http"},
    }
    try:
        for text, fields in broken.items():
            airflow.change_connection(CONN_ID, **{**given, **fields})
            response = get(report_path(run_id), READER)
            assert (response.status_code, response.headers["Cache-Control"]) == (502, "no-store"), text
            assert text in response.text
            assert "Traceback" not in response.text
            assert given["password"] not in response.text
    finally:
        airflow.change_connection(CONN_ID, **given)
    assert get(report_path(run_id), READER).status_code == 302


def test_with_the_option_off_there_is_no_route(
    get: Callable[..., requests.Response], airflow: AirflowWithUsers, run_id: str, losant: Emulator
) -> None:
    losant.clear_requests()
    with another_server(airflow, "api-server-off", AIRFLOW__LOSANT__REPORT_LINKS="False") as url:
        ours = get(report_path(run_id), READER, url=url)
        unknown = get("/no/such/route", READER, url=url)
        plugins = requests.get(
            f"{url}/api/v2/plugins", headers={"Authorization": f"Bearer {airflow.token(ADMIN)}"}, timeout=60
        ).json()["plugins"]

    assert (ours.status_code, ours.text) == (unknown.status_code, unknown.text)
    assert losant.requests == []
    (plugin,) = [it for it in plugins if it["name"] == "losant_report"]
    assert (plugin["fastapi_apps"], plugin["flask_blueprints"]) == ([], [])


def test_where_every_visitor_is_an_administrator_as_in_the_demo_a_report_opens_without_a_session(
    get: Callable[..., requests.Response], airflow: AirflowWithUsers, run_id: str
) -> None:
    open_to_all = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True"}
    with another_server(airflow, "api-server-open", **open_to_all) as url:
        assert get(report_path(run_id), None, url=url).status_code == 302


@pytest.mark.airflow(since="3.3")
def test_the_link_works_where_airflow_is_below_a_prefix(
    browser: Browser, airflow: AirflowWithUsers, run_id: str, losant: Emulator
) -> None:
    with another_server(airflow, "api-server-prefix", "/data/airflow") as url:
        page = browser.open(url)
        try:
            page.context.add_cookies([{"name": "_token", "value": airflow.token(READER), "url": url}])
            page.goto(f"{url}/dags/{REPORT_DAG}/runs/{run_id}/tasks/{REPORT_TASK}/mapped/{HAMBURG}/details")
            page.get_by_role("link", name="Open report").click()
            page.wait_for_url(re.compile(re.escape(losant.files_url)))
        finally:
            page.close()


def test_a_notebook_that_is_gone_leaves_a_page_and_no_trace_of_a_signed_url_anywhere(
    get: Callable[..., requests.Response], airflow: AirflowWithUsers, run_id: str, losant: Emulator
) -> None:
    signature = re.compile(r"expires=\d+&signature=\w+")
    assert signature.search(get(report_path(run_id), READER).headers["Location"])

    notebook = losant.backend.notebooks[REPORT_NOTEBOOK]
    losant.backend.delete(notebook)
    response = get(report_path(run_id), READER)

    assert response.status_code == 404
    assert "no longer has this report" in response.text
    texts = {it: it.read_text(errors="replace") for it in airflow.home.rglob("*.log")}
    assert texts != {}
    assert [str(it) for it, text in texts.items() if signature.search(text)] == []
    assert [str(it) for it, text in texts.items() if losant.token in text] == []
