# SPDX-License-Identifier: Apache-2.0
"""The emulator over real HTTP: order of checks, error responses, notebooks and tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow_provider_losant.emulator import Emulator, Script
from tests.contract.api_client import ApiClient
from tests.support.http_stub import self_signed

UNKNOWN = "f" * 24
REPORT = {"outputType": "temporaryUrl", "fileName": "report.csv"}


def error(response: Any) -> tuple[int, str | None, str | None]:
    return response.status_code, response.json().get("type"), response.json().get("message")


def test_an_unknown_path_is_405_even_without_a_token(client: ApiClient) -> None:
    assert error(client.call("GET", "/devices", token=None)) == (
        405,
        "MethodNotAllowed",
        "GET is not allowed",
    )
    assert client.call("PUT", "/notebooks").status_code == 405


def test_invalid_json_is_reported_before_parameters_and_token(client: ApiClient) -> None:
    response = client.call(
        "POST", "/notebooks/bad/execute", data="{", token=None, headers={"Content-Type": "application/json"}
    )

    assert response.status_code == 400
    assert response.json()["code"] == "InvalidContent"
    assert "type" not in response.json()


def test_parameters_are_checked_before_the_token(client: ApiClient) -> None:
    assert error(client.call("GET", "/notebooks/bad", token=None)) == (
        400,
        "Validation",
        "notebookId pattern mismatch",
    )
    assert error(client.call("POST", f"/notebooks/{UNKNOWN}/cancelExecution", token="wrong")) == (
        400,
        "Validation",
        "executionId is required",
    )


def test_a_missing_token_is_403_and_an_invalid_or_expired_one_401(
    losant: Emulator, client: ApiClient
) -> None:
    path = f"/notebooks/{UNKNOWN}"

    assert error(client.call("GET", path, token=None)) == (403, "Forbidden", "Access is forbidden")
    assert error(client.call("GET", path, token="wrong")) == (401, "Unauthorized", "Invalid access token")
    assert error(client.call("GET", path, token=losant.add_token(expired=True))) == (
        401,
        "Unauthorized",
        "Access token has expired",
    )


def test_the_scope_is_checked_before_the_notebook(losant: Emulator, client: ApiClient) -> None:
    logs_only = losant.add_token(scopes=("notebook.logs",))

    assert client.call("GET", f"/notebooks/{UNKNOWN}", token=logs_only).status_code == 403
    assert error(client.call("GET", f"/notebooks/{UNKNOWN}/logs", token=logs_only)) == (
        404,
        "NotFound",
        "Notebook was not found",
    )


def test_a_token_cannot_see_another_application(losant: Emulator, client: ApiClient) -> None:
    other = losant.add_application(name="Other")
    other_notebook = losant.add_notebook(name="Other", application_id=other)

    response = client.session.get(
        f"{losant.url}/applications/{other}",
        headers={"Authorization": f"Bearer {losant.token}"},
        timeout=10,
    )

    assert error(response) == (404, "NotFound", "Application was not found")
    assert client.call("GET", f"/notebooks/{other_notebook}").status_code == 404


def test_a_body_without_the_json_content_type_is_ignored(client: ApiClient, losant: Emulator) -> None:
    notebook_id = losant.add_notebook()

    response = client.call("POST", f"/notebooks/{notebook_id}/execute", data="{}")

    assert error(response) == (400, "Validation", "executionOptions is required")


def test_a_repeated_query_parameter_is_the_wrong_type(client: ApiClient, losant: Emulator) -> None:
    response = client.call(
        "GET", f"/notebooks/{losant.add_notebook()}/logs", params=[("limit", "1"), ("limit", "2")]
    )

    assert error(response) == (400, "Validation", "limit is the wrong type")


def test_a_notebook_can_be_created_changed_read_and_deleted(client: ApiClient) -> None:
    created = client.call("POST", "/notebooks", json={"name": "Energy", "outputs": [REPORT, REPORT]})
    path = f"/notebooks/{created.json()['id'].upper()}"
    changed = client.call("PATCH", path, json={"description": "Daily", "outputs": [REPORT]})
    read = client.call("GET", path + "/")
    deleted = client.call("DELETE", path)

    assert [response.status_code for response in (created, changed, read, deleted)] == [201, 200, 200, 200]
    assert read.json() == changed.json()
    assert (read.json()["description"], read.json()["outputs"]) == ("Daily", [REPORT])
    assert "jupyterFileUrl" not in read.json()
    assert deleted.json() == {"success": True}
    assert client.call("GET", path).status_code == 404


def test_an_uploaded_file_can_be_downloaded(client: ApiClient, losant: Emulator) -> None:
    path = f"/notebooks/{losant.add_notebook()}/upload"

    response = client.call("POST", path, files={"jupyterFile": ("energy.ipynb", b"{}")})

    assert (response.status_code, response.json()["jupyterFileName"]) == (200, "energy.ipynb")
    assert client.session.get(response.json()["jupyterFileUrl"], timeout=10).content == b"{}"
    assert error(client.call("POST", path, files={"other": ("x", b"")})) == (
        400,
        "Validation",
        "jupyterFile is required",
    )
    assert client.call("POST", path, files={"jupyterFile": (None, "text")}).json()["message"] == (
        "jupyterFile is not a valid file"
    )
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    broken = client.call("POST", path, data=b"--y", headers=form)
    assert (broken.status_code, broken.json()["message"][:23]) == (400, "Invalid multipart body:")


def test_notebooks_are_listed_sorted_filtered_and_in_pages(client: ApiClient, losant: Emulator) -> None:
    for name in ("beta", "alpha", "gamma"):
        losant.add_notebook(name=name)

    def names(**query: Any) -> list[str]:
        return [item["name"] for item in client.call("GET", "/notebooks", params=query).json()["items"]]

    listed = client.call("GET", "/notebooks").json()
    assert names() == ["alpha", "beta", "gamma"]
    assert names(sortDirection="desc", perPage=2) == ["gamma", "beta"]
    assert names(page=1, perPage=2) == ["gamma"]
    assert names(filterField="name", filter="*ET*") == ["beta"]
    assert names(filterField="name", filter="*a", perPage=1, page=1) == ["beta"]
    assert (listed["count"], listed["totalCount"], listed["perPage"]) == (3, 3, 100)
    assert client.call("GET", "/notebooks", params={"sortField": "size"}).status_code == 400


def test_a_filter_that_is_a_name_with_globs_may_miss_that_name(client: ApiClient, losant: Emulator) -> None:
    for name in ("Report [1]", "Report 1"):
        losant.add_notebook(name=name)

    def names(pattern: str) -> list[str]:
        query = {"filterField": "name", "filter": pattern}
        return [item["name"] for item in client.call("GET", "/notebooks", params=query).json()["items"]]

    assert names("Report [1]") == ["Report 1"]
    assert names("Report *1*") == ["Report 1", "Report [1]"]


def test_links_is_true_in_three_spellings_only(client: ApiClient, losant: Emulator) -> None:
    path = f"/notebooks/{losant.add_notebook()}"

    linked = [
        "_links" in client.call("GET", path, params=query).json()
        for query in ({}, {"_links": "true"}, {"_links": "1"}, {"_links": "True"}, {"_links": "false"})
    ]

    assert linked == [True, True, True, False, False]


def test_the_application_has_notebook_statistics_on_request(client: ApiClient, losant: Emulator) -> None:
    plain = client.call("GET", "").json()
    counted = client.call("GET", "", params={"summaryInclude": "notebookStats"}).json()

    assert plain["id"] == losant.application_id
    assert counted["summary"]["notebookStats"]["awaitingCompletion"] == 0


def test_an_export_is_accepted_once_in_fifteen_minutes(client: ApiClient, losant: Emulator) -> None:
    path = f"/notebooks/{losant.add_notebook()}/requestInputDataExport"

    first, second = client.call("POST", path, json={}), client.call("POST", path, json={})

    assert (first.status_code, len(first.json()["jobId"])) == (202, 21)
    assert second.status_code == 429


def test_responses_name_losant_as_server_and_are_compressed_on_demand(client: ApiClient) -> None:
    compressed = client.call("GET", "/notebooks")
    plain = client.call("GET", "/notebooks", headers={"Accept-Encoding": "identity"})

    assert compressed.headers["Server"] == "Losant API"
    assert (compressed.headers["Content-Encoding"], plain.headers.get("Content-Encoding")) == ("gzip", None)
    assert compressed.json() == plain.json()


def test_the_request_log_has_everything_but_the_token(client: ApiClient, losant: Emulator) -> None:
    notebook_id = losant.add_notebook()
    client.call("POST", f"/notebooks/{notebook_id}/execute", json={"templateContext": "{}"})
    client.call("GET", f"/notebooks/{notebook_id}/logs", params={"limit": 5, "access_token": "abc"})
    client.call("GET", "/nowhere", token=None)

    execute, logs, unknown = losant.requests
    assert (execute.operation, execute.method, execute.status) == ("notebook.execute", "POST", 200)
    assert (execute.body, execute.authorized) == ({"templateContext": "{}"}, True)
    assert execute.headers["user-agent"].startswith("python-requests")
    assert (logs.operation, logs.query) == ("notebook.logs", {"limit": "5"})
    assert (unknown.operation, unknown.status, unknown.authorized) == ("", 405, False)
    assert losant.token not in repr(losant.requests)
    losant.clear_requests()
    assert losant.requests == []


def test_the_request_log_is_also_a_file_that_keeps_what_is_cleared(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    with Emulator(request_log=path) as losant:
        client = ApiClient(losant)
        client.call("GET", "/notebooks")
        losant.clear_requests()
        client.call("GET", "/nowhere", token=None)
        client.session.close()

    lines = [json.loads(it) for it in path.read_text().splitlines()]
    assert [(it["operation"], it["status"]) for it in lines] == [("notebooks.get", 200), ("", 405)]
    assert losant.token not in path.read_text()


def test_both_ports_can_serve_https(tmp_path: Path) -> None:
    tls, certificate = self_signed(tmp_path)

    with Emulator(tls=tls) as losant:
        notebook = losant.add_notebook()
        losant.script(notebook, Script(notebook=0, files={"out.csv": b"site,kwh\n"}))
        secure = ApiClient(losant)
        secure.session.verify = str(certificate)
        secure.execute(notebook)
        url = secure.wait(notebook)["outputInfo"]["out.csv"]["url"]
        content = secure.session.get(url, timeout=10).content
        secure.session.close()

    assert losant.url.startswith("https://")
    assert url.startswith("https://")
    assert content == b"site,kwh\n"
