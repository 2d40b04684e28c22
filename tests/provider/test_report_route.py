# SPDX-License-Identifier: Apache-2.0
"""The route of the link to a report, in this process; in real web servers, tests/ui tests it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_losant.plugins.report import LosantReportPlugin
from tests.provider.conftest import IN_AIRFLOW_DATABASE

PATH = "/report/energy/manual__2026-01-01/report/-1/1"

pytestmark = [pytest.mark.airflow(since="3.1"), *IN_AIRFLOW_DATABASE, pytest.mark.usefixtures("airflow_db")]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the app of the plugin, in a web server with Airflow's simple users."""
    from airflow.api_fastapi import app as web_server

    monkeypatch.setenv("AIRFLOW__LOSANT__REPORT_LINKS", "True")
    web_server.create_auth_manager()
    plugin = LosantReportPlugin()
    (app,) = plugin.fastapi_apps
    assert (app["name"], app["url_prefix"], plugin.flask_blueprints) == ("losant_report", "/losant", [])
    yield app["app"]
    web_server.purge_cached_app()


def send(app: Any, method: str, path: str) -> Any:
    import httpx

    async def respond() -> Any:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://airflow") as client:
            return await client.request(method, path)

    return asyncio.run(respond())


def log_in(app: Any, role: str | None) -> None:
    """Let each request come from a user with a role."""
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import get_user

    app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="ada", role=role)


def test_who_is_not_logged_in_is_asked_to(server: Any) -> None:
    response = send(server, "GET", PATH)

    assert (response.status_code, "Log in to Airflow" in response.text) == (401, True)


@pytest.mark.parametrize(
    ("role", "asked", "status", "text"),
    [
        (None, f"GET {PATH}", 403, "You are not allowed to read the XComs of this DAG"),
        ("viewer", f"GET {PATH}", 404, "Airflow has no report here."),
        ("viewer", "GET /report/energy", 404, "Airflow has no report here."),
        ("viewer", f"GET {PATH}/", 404, "Airflow has no report here."),
        ("admin", f"POST {PATH}", 405, "A report can only be opened."),
    ],
)
def test_a_request_that_opens_no_report_gets_a_page_with_the_reason(
    server: Any, role: str | None, asked: str, status: int, text: str
) -> None:
    log_in(server, role)

    response = send(server, *asked.split())

    assert (response.status_code, response.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert text in response.text
