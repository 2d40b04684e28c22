# SPDX-License-Identifier: Apache-2.0
"""The route of the link to the report in the web server of Airflow 2, for users with and without access."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest
import requests

from airflow_provider_losant.emulator import Emulator, Script
from tests.support.airflow_2 import LocalAirflow2
from tests.support.airflow_connection import connection
from tests.support.copied_examples import copy_examples
from tests.support.postgres import best_database
from tests.ui.conftest import BATTERIES, SENSOR_DAG, start
from tests.ui.second_server import second_server

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.airflow(before="3.0"),
    pytest.mark.xdist_group("other-airflow"),
    pytest.mark.timeout(600),
]

CONN_ID = "losant_default"
TASK = "health"
READER, STRANGER = "reader", "stranger"
REQUEST_TIMEOUT = 90
ROLE_WITHOUT_DAGS = """
from airflow.www.app import cached_app
manager = cached_app().appbuilder.sm
role = manager.add_role("NoDags")
for action, resource in (("can_read", "Website"), ("can_read", "XComs"), ("can_read", "Task Instances")):
    manager.add_permission_to_role(role, manager.create_permission(action, resource))
"""


@pytest.fixture(scope="module")
def losant() -> Iterator[Emulator]:
    """Yield a Losant in which the notebook of the sensor has a report."""
    with Emulator() as emulator:
        emulator.add_notebook("Battery health", notebook_id=BATTERIES)
        emulator.script(BATTERIES, Script(notebook=1, files={"result.html": b"<p>42</p>"}))
        yield emulator


@pytest.fixture(scope="module")
def airflow(losant: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow2]:
    """Yield an Airflow 2 with report links, of which every visitor is an administrator."""
    dags = tmp_path_factory.mktemp("dags")
    copy_examples(dags, ["losant_fire_then_wait.py"], {"poke_interval=20": "poke_interval=1"})
    home = tmp_path_factory.mktemp("airflow")
    env = {"AIRFLOW__LOSANT__REPORT_LINKS": "True"}
    with (
        best_database() as database,  # with SQLite, Airflow 2 runs one task at a time only
        LocalAirflow2(home, dags, env=env, sql_alchemy_conn=database) as running,
    ):
        running.add_connection(CONN_ID, **connection(losant))
        running.wait_for_dag(SENSOR_DAG)
        running.unpause(SENSOR_DAG)
        yield running


@pytest.fixture(scope="module")
def link(airflow: LocalAirflow2) -> str:
    """Return the link of a task whose execution has a report."""
    run_id = start(airflow, SENSOR_DAG)
    assert airflow.wait_for_run(SENSOR_DAG, run_id, timeout=240) == "success"
    found = airflow.links(SENSOR_DAG, run_id, TASK)["Open report"]
    assert found is not None
    return found


def another_server(
    airflow: LocalAirflow2, name: str, path: str = "", **env: str
) -> AbstractContextManager[str]:
    """Run a second web server of the Airflow with other settings, and yield its address."""
    return second_server(
        airflow,
        name,
        ("webserver", "--hostname", "127.0.0.1", "--pid", str(airflow.home / f"{name}.pid")),
        setting="AIRFLOW__WEBSERVER__BASE_URL",
        health="/health",
        env=env,
        prefix=path,
        timeout=180,
    )


@pytest.fixture(scope="module")
def locked(airflow: LocalAirflow2, link: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a web server, below a prefix, whose visitors have to log in."""
    config: Path = tmp_path_factory.mktemp("config") / "webserver_config.py"
    config.write_text("WTF_CSRF_ENABLED = False\n")
    env = {"AIRFLOW__WEBSERVER__CONFIG_FILE": str(config)}
    python = [sys.executable, "-c", ROLE_WITHOUT_DAGS]
    subprocess.run(python, env=airflow.environment | env, check=True, timeout=180)
    for user, role in ((READER, "Viewer"), (STRANGER, "NoDags")):
        command = [sys.executable, "-m", "airflow", "users", "create", "--username", user, "--password", user]
        command += [
            "--role",
            role,
            "--firstname",
            user,
            "--lastname",
            user,
            "--email",
            f"{user}@plant.example",
        ]
        subprocess.run(command, env=airflow.environment | env, check=True, timeout=180)
    with another_server(airflow, "webserver-locked", "/data/airflow", **env) as url:
        yield url


def browse(url: str, path: str, user: str | None = None, method: str = "GET") -> requests.Response:
    """Request a path as a user's browser would, and follow no redirect."""
    session = session_of(url, user)
    return session.request(method, f"{url}{path}", allow_redirects=False, timeout=REQUEST_TIMEOUT)


@cache
def session_of(url: str, user: str | None) -> requests.Session:
    """Return a session in which a user has logged in, once, because Airflow limits that."""
    session = requests.Session()
    if user is not None:
        form = {"username": user, "password": user}
        session.post(f"{url}/login/", data=form, timeout=REQUEST_TIMEOUT).raise_for_status()
    return session


def test_a_viewer_is_sent_to_the_report(locked: str, link: str, losant: Emulator) -> None:
    response = browse(locked, link, READER)

    assert response.status_code == 302
    location = response.headers["Location"]
    assert location.startswith(f"{losant.files_url}/")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert requests.get(location, timeout=REQUEST_TIMEOUT).text == "<p>42</p>"


def test_who_is_not_logged_in_and_who_may_not_read_the_dag_get_no_report(
    locked: str, link: str, losant: Emulator
) -> None:
    losant.clear_requests()

    for user, status in ((None, 401), (STRANGER, 403)):
        for path in (link, f"{link}?dag_id=another", link.replace(SENSOR_DAG, "no_such_dag")):
            response = browse(locked, path, user)
            assert (response.status_code, "Location" in response.headers) == (status, False)

    assert losant.requests == []


def test_the_run_of_another_dag_cannot_be_reached_by_editing_the_url(
    locked: str, link: str, losant: Emulator
) -> None:
    losant.clear_requests()
    run = quote(link.split("/")[4], safe="")
    wrong = [
        link.replace(run, "no_such_run"),
        link.replace(SENSOR_DAG, "no_such_dag"),
        link.replace(SENSOR_DAG, "~"),
        link.replace(TASK, "start"),
        link.replace("/-1", "/0"),
        link.replace("/-1", "/-2"),
        link.replace("/-1", "/x"),
        link.replace("/-1/1", "/-1/2"),
        link.replace("/-1/1", "/-1/x"),
        link.replace("/-1/1", "/-1"),
    ]

    responses = {path: browse(locked, path, READER) for path in wrong}

    assert {path: it.status_code for path, it in responses.items()} == dict.fromkeys(wrong, 404)
    assert losant.requests == []


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS"])
def test_a_report_can_only_be_opened(locked: str, link: str, losant: Emulator, method: str) -> None:
    losant.clear_requests()

    assert browse(locked, link, READER, method).status_code == 405
    assert losant.requests == []


def test_a_reader_is_told_in_plain_words_why_there_is_no_report_now(
    airflow: LocalAirflow2, locked: str, link: str, losant: Emulator
) -> None:
    expired = losant.add_token(expired=True)
    airflow.change_connection(CONN_ID, conn_type="losant", password=expired)
    try:
        response = browse(locked, link, READER)
    finally:
        airflow.change_connection(CONN_ID, conn_type="losant", password=losant.token)

    assert response.status_code == 502
    assert "refuses the API token" in response.text


def test_with_the_option_off_there_is_no_route(airflow: LocalAirflow2, link: str, losant: Emulator) -> None:
    losant.clear_requests()

    with another_server(airflow, "webserver-off", AIRFLOW__LOSANT__REPORT_LINKS="False") as url:
        ours, unknown = (browse(url, path) for path in (link, "/no/such/route"))

    assert (ours.status_code, unknown.status_code) == (404, 404)
    assert losant.requests == []


def test_a_signed_url_and_the_token_are_in_no_log(
    airflow: LocalAirflow2, locked: str, link: str, losant: Emulator
) -> None:
    signature = re.compile(r"expires=\d+&signature=\w+")
    assert signature.search(urlsplit(browse(locked, link, READER).headers["Location"]).query)

    texts = {it: it.read_text(errors="replace") for it in airflow.home.rglob("*.log")}

    assert texts != {}
    assert [str(it) for it, text in texts.items() if signature.search(text)] == []
    assert [str(it) for it, text in texts.items() if losant.token in text] == []
