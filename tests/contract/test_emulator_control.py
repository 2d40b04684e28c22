# SPDX-License-Identifier: Apache-2.0
"""The control routes of the emulator, by which tests in another process do what the class does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator
    from tests.contract.api_client import ApiClient

Control = Callable[..., requests.Response]


@pytest.fixture
def control(losant: Emulator) -> Control:
    def send(method: str, path: str, body: Any = None) -> requests.Response:
        return requests.request(method, f"{losant.url}/_emulator/{path}", json=body, timeout=10)

    return send


def test_the_control_routes_script_executions_and_inject_faults(
    client: ApiClient, control: Control, notebook: str
) -> None:
    control("POST", f"script/{notebook}", {"ending": "errored", "errors": [["E", "boom"]], "notebook": 0})
    control("POST", "inject", {"operation": "notebook.logs", "kind": "html", "status": 500})
    switches = control("PATCH", "switches", {"listing_lag": 60}).json()
    client.execute(notebook)
    responses = [client.call("GET", f"/notebooks/{notebook}/logs") for _ in range(2)]
    logged = control("GET", "requests").json()
    control("DELETE", "requests")
    control("POST", "inject", {"kind": "hang", "times": 9})
    control("DELETE", "inject")
    assert client.call("GET", f"/notebooks/{notebook}/logs").status_code == 200
    control("DELETE", "requests")

    assert switches["listing_lag"] == 60
    assert control("GET", "switches").json() == switches
    assert [response.status_code for response in responses] == [500, 200]
    assert responses[1].json() == []
    assert control("GET", f"executions/{notebook}").json()[0]["status"] == "errored"
    assert [each["operation"] for each in logged] == ["notebook.execute", "notebook.logs", "notebook.logs"]
    assert control("GET", "requests").json() == []


@pytest.mark.parametrize(
    ("route", "body", "status"),
    [
        ("POST inject", {"kind": "tsunami"}, 400),
        ("POST inject", {"kind": "hang", "speed": 1}, 400),
        ("POST inject", {}, 400),
        ("PATCH switches", {"speed": 1}, 400),
        ("POST script/unknown", {}, 404),
        ("POST script/{notebook}", {"speed": 1}, 400),
    ],
)
def test_the_control_routes_reject_invalid_requests(
    control: Control, notebook: str, route: str, body: Any, status: int
) -> None:
    response = control(*route.format(notebook=notebook).split(), body)

    assert (response.status_code, "message" in response.json()) == (status, True)
