# SPDX-License-Identifier: Apache-2.0
"""The emulator over real HTTP: order of checks, envelopes, notebooks, tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_losant.emulator import Emulator, Script
from tests.contract.conftest import Client
from tests.support.http_stub import self_signed

UNKNOWN = "f" * 24
REPORT = {"outputType": "temporaryUrl", "fileName": "report.csv"}


def envelope(answer: Any) -> tuple[int, str | None, str | None]:
    return answer.status_code, answer.json().get("type"), answer.json().get("message")


def test_a_path_that_does_not_exist_is_405_even_without_a_token(client: Client) -> None:
    assert envelope(client.call("GET", "/devices", token=None)) == (
        405,
        "MethodNotAllowed",
        "GET is not allowed",
    )
    assert client.call("PUT", "/notebooks").status_code == 405


def test_broken_json_comes_before_everything_but_the_route(client: Client) -> None:
    answer = client.call(
        "POST", "/notebooks/bad/execute", data="{", token=None, headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == 400
    assert answer.json()["code"] == "InvalidContent"
    assert "type" not in answer.json()


def test_parameters_are_checked_before_the_token(client: Client) -> None:
    assert envelope(client.call("GET", "/notebooks/bad", token=None)) == (
        400,
        "Validation",
        "notebookId pattern mismatch",
    )
    assert envelope(client.call("POST", f"/notebooks/{UNKNOWN}/cancelExecution", token="wrong")) == (
        400,
        "Validation",
        "executionId is required",
    )


def test_no_token_is_403_a_wrong_or_expired_one_401(losant: Emulator, client: Client) -> None:
    path = f"/notebooks/{UNKNOWN}"

    assert envelope(client.call("GET", path, token=None)) == (403, "Forbidden", "Access is forbidden")
    assert envelope(client.call("GET", path, token="wrong")) == (401, "Unauthorized", "Invalid access token")
    assert envelope(client.call("GET", path, token=losant.add_token(expired=True))) == (
        401,
        "Unauthorized",
        "Access token has expired",
    )


def test_the_scope_is_checked_before_the_notebook_is_looked_for(losant: Emulator, client: Client) -> None:
    logs_only = losant.add_token(scopes=("notebook.logs",))

    assert client.call("GET", f"/notebooks/{UNKNOWN}", token=logs_only).status_code == 403
    assert envelope(client.call("GET", f"/notebooks/{UNKNOWN}/logs", token=logs_only)) == (
        404,
        "NotFound",
        "Notebook was not found",
    )


def test_another_application_does_not_exist_for_a_token(losant: Emulator, client: Client) -> None:
    other = losant.add_application(name="Other")
    theirs = losant.add_notebook(name="Theirs", application_id=other)

    answer = client.session.get(
        f"{losant.url}/applications/{other}",
        headers={"Authorization": f"Bearer {losant.token}"},
        timeout=10,
    )

    assert envelope(answer) == (404, "NotFound", "Application was not found")
    assert client.call("GET", f"/notebooks/{theirs}").status_code == 404


def test_a_body_without_the_json_content_type_is_no_body(client: Client, losant: Emulator) -> None:
    notebook_id = losant.add_notebook()

    answer = client.call("POST", f"/notebooks/{notebook_id}/execute", data="{}")

    assert envelope(answer) == (400, "Validation", "executionOptions is required")


def test_a_repeated_query_parameter_is_the_wrong_type(client: Client, losant: Emulator) -> None:
    answer = client.call(
        "GET", f"/notebooks/{losant.add_notebook()}/logs", params=[("limit", "1"), ("limit", "2")]
    )

    assert envelope(answer) == (400, "Validation", "limit is the wrong type")


def test_a_notebook_lives_from_post_to_delete(client: Client) -> None:
    made = client.call("POST", "/notebooks", json={"name": "Energy", "outputs": [REPORT, REPORT]})
    path = f"/notebooks/{made.json()['id'].upper()}"
    changed = client.call("PATCH", path, json={"description": "Daily", "outputs": [REPORT]})
    read = client.call("GET", path + "/")
    gone = client.call("DELETE", path)

    assert [answer.status_code for answer in (made, changed, read, gone)] == [201, 200, 200, 200]
    assert read.json() == changed.json()
    assert (read.json()["description"], read.json()["outputs"]) == ("Daily", [REPORT])
    assert "jupyterFileUrl" not in read.json()
    assert gone.json() == {"success": True}
    assert client.call("GET", path).status_code == 404


def test_an_upload_gives_the_notebook_its_file(client: Client, losant: Emulator) -> None:
    path = f"/notebooks/{losant.add_notebook()}/upload"

    answer = client.call("POST", path, files={"jupyterFile": ("energy.ipynb", b"{}")})

    assert (answer.status_code, answer.json()["jupyterFileName"]) == (200, "energy.ipynb")
    assert client.session.get(answer.json()["jupyterFileUrl"], timeout=10).content == b"{}"
    assert envelope(client.call("POST", path, files={"other": ("x", b"")})) == (
        400,
        "Validation",
        "jupyterFile is required",
    )
    assert client.call("POST", path, files={"jupyterFile": (None, "text")}).json()["message"] == (
        "jupyterFile is not a valid file"
    )


def test_notebooks_are_listed_sorted_filtered_and_in_pages(client: Client, losant: Emulator) -> None:
    for name in ("beta", "alpha", "gamma"):
        losant.add_notebook(name=name)

    def names(**query: Any) -> list[str]:
        return [item["name"] for item in client.call("GET", "/notebooks", params=query).json()["items"]]

    listed = client.call("GET", "/notebooks").json()
    assert names() == ["alpha", "beta", "gamma"]
    assert names(sortDirection="desc", perPage=2) == ["gamma", "beta"]
    assert names(page=1, perPage=2) == ["gamma"]
    assert names(filterField="name", filter="*ET*") == ["beta"]
    assert (listed["count"], listed["totalCount"], listed["perPage"]) == (3, 3, 100)
    assert client.call("GET", "/notebooks", params={"sortField": "size"}).status_code == 400


def test_flags_are_true_only_in_three_spellings(client: Client, losant: Emulator) -> None:
    path = f"/notebooks/{losant.add_notebook()}"

    linked = [
        "_links" in client.call("GET", path, params=query).json()
        for query in ({}, {"_links": "true"}, {"_links": "1"}, {"_links": "True"}, {"_links": "false"})
    ]

    assert linked == [True, True, True, False, False]


def test_the_application_counts_what_runs(client: Client, losant: Emulator) -> None:
    plain = client.call("GET", "").json()
    counted = client.call("GET", "", params={"summaryInclude": "notebookStats"}).json()

    assert plain["id"] == losant.application_id
    assert counted["summary"]["notebookStats"]["awaitingCompletion"] == 0


def test_an_export_is_accepted_once_in_a_quarter_of_an_hour(client: Client, losant: Emulator) -> None:
    path = f"/notebooks/{losant.add_notebook()}/requestInputDataExport"

    first, second = client.call("POST", path, json={}), client.call("POST", path, json={})

    assert (first.status_code, len(first.json()["jobId"])) == (202, 21)
    assert second.status_code == 429


def test_answers_say_that_they_come_from_losant_and_are_compressed_on_demand(client: Client) -> None:
    zipped = client.call("GET", "/notebooks")
    plain = client.call("GET", "/notebooks", headers={"Accept-Encoding": "identity"})

    assert zipped.headers["Server"] == "Losant API"
    assert (zipped.headers["Content-Encoding"], plain.headers.get("Content-Encoding")) == ("gzip", None)
    assert zipped.json() == plain.json()


def test_the_request_log_tells_everything_but_the_token(client: Client, losant: Emulator) -> None:
    notebook_id = losant.add_notebook()
    client.call("POST", f"/notebooks/{notebook_id}/execute", json={"templateContext": "{}"})
    client.call("GET", f"/notebooks/{notebook_id}/logs", params={"limit": 5, "access_token": "abc"})
    client.call("GET", "/nowhere", token=None)

    executed, looked, lost = losant.requests
    assert (executed.operation, executed.method, executed.status) == ("notebook.execute", "POST", 200)
    assert (executed.body, executed.authorized) == ({"templateContext": "{}"}, True)
    assert executed.headers["user-agent"].startswith("python-requests")
    assert (looked.operation, looked.query) == ("notebook.logs", {"limit": "5"})
    assert (lost.operation, lost.status, lost.authorized) == ("", 405, False)
    assert losant.token not in repr(losant.requests)
    losant.clear_requests()
    assert losant.requests == []


def test_it_speaks_https_on_both_ports_when_asked_to(tmp_path: Path) -> None:
    tls, certificate = self_signed(tmp_path)

    with Emulator(tls=tls) as losant:
        notebook = losant.add_notebook()
        losant.script(notebook, Script(notebook=0, files={"out.csv": b"site,kwh\n"}))
        secure = Client(losant)
        secure.session.verify = str(certificate)
        secure.execute(notebook)
        address = secure.wait(notebook)["outputInfo"]["out.csv"]["url"]
        content = secure.session.get(address, timeout=10).content
        secure.session.close()

    assert losant.url.startswith("https://")
    assert address.startswith("https://")
    assert content == b"site,kwh\n"
