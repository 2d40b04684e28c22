# SPDX-License-Identifier: Apache-2.0
"""Every kind of fault over real HTTP, and whether the request took effect."""

from __future__ import annotations

import json
import threading
import time
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests

from airflow_provider_losant.emulator import Emulator, Fault, Script
from tests.contract.api_client import ApiClient
from tests.contract.emulator_process import wait_until


@pytest.fixture
def notebook_id(losant: Emulator) -> str:
    notebook_id = losant.add_notebook()
    losant.script(notebook_id, Script())
    return notebook_id


def execute_with(client: ApiClient, notebook_id: str, fault: Fault) -> requests.Response:
    client.losant.inject("notebook.execute", fault)
    return client.call("POST", f"/notebooks/{notebook_id}/execute", json={}, allow_redirects=False)


def count_executions(client: ApiClient, notebook_id: str) -> int:
    return len(client.losant.executions(notebook_id))


@pytest.mark.parametrize(
    ("fault", "status", "header"),
    [
        (Fault("rate_limited"), 429, (None, None)),
        (Fault("rate_limited", retry_after=2), 429, ("Retry-After", "2")),
        (
            Fault("rate_limited", retry_after="Wed, 21 Oct 2026 07:28:00 GMT"),
            429,
            ("Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT"),
        ),
        (Fault("server_error"), 503, ("Content-Type", "application/json; charset=utf-8")),
        (Fault("server_error", status=500), 500, (None, None)),
        (Fault("html"), 502, ("Content-Type", "text/html; charset=utf-8")),
        (Fault("html", status=200), 200, ("Content-Type", "text/html; charset=utf-8")),
        (Fault("redirect"), 302, ("Location", "http://elsewhere.invalid/")),
        (Fault("unauthorized"), 401, (None, None)),
    ],
)
def test_an_error_response_comes_without_effect(
    client: ApiClient, notebook_id: str, fault: Fault, status: int, header: tuple[Any, Any]
) -> None:
    response = execute_with(client, notebook_id, fault)

    assert response.status_code == status
    assert response.headers.get(header[0] or "Retry-After") == header[1]
    assert count_executions(client, notebook_id) == 0
    assert client.losant.requests[-1].status == status


def test_a_server_error_can_come_after_the_effect(client: ApiClient, notebook_id: str) -> None:
    response = execute_with(client, notebook_id, Fault("server_error", processed=True))

    assert (response.status_code, count_executions(client, notebook_id)) == (503, 1)


def test_a_truncated_response_is_invalid_json_but_takes_effect(client: ApiClient, notebook_id: str) -> None:
    response = execute_with(client, notebook_id, Fault("truncated"))

    assert (response.status_code, response.text[:10]) == (200, '{"success"')
    with pytest.raises(json.JSONDecodeError):
        json.loads(response.text)
    assert count_executions(client, notebook_id) == 1


@pytest.mark.parametrize(("kind", "count"), [("reset_before", 0), ("reset_after", 1)])
def test_a_reset_comes_before_or_after_the_effect(
    client: ApiClient, notebook_id: str, kind: Any, count: int
) -> None:
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        execute_with(client, notebook_id, Fault(kind))

    assert count_executions(client, notebook_id) == count
    assert client.losant.requests[-1].status is None


@pytest.mark.parametrize("processed", [False, True])
def test_a_hang_resets_the_connection_without_a_response(
    client: ApiClient, notebook_id: str, *, processed: bool
) -> None:
    start = time.monotonic()

    with pytest.raises(requests.ConnectionError):
        execute_with(client, notebook_id, Fault("hang", seconds=0.05, processed=processed))

    assert time.monotonic() - start >= 0.05
    assert count_executions(client, notebook_id) == int(processed)


def test_a_slow_response_is_late_but_complete(client: ApiClient, notebook_id: str) -> None:
    start = time.monotonic()

    response = execute_with(client, notebook_id, Fault("slow", seconds=0.05))

    assert time.monotonic() - start >= 0.05
    assert (response.status_code, count_executions(client, notebook_id)) == (200, 1)


def test_a_slow_request_can_take_effect_long_before_its_response() -> None:
    with Emulator() as losant:
        client = ApiClient(losant)
        notebook_id = losant.add_notebook()
        losant.script(notebook_id, Script())
        fault = Fault("slow", seconds=60, processed=True)
        thread = threading.Thread(target=execute_with, args=(client, notebook_id, fault))
        thread.start()
        wait_until(lambda: count_executions(client, notebook_id), 4)

        assert count_executions(client, notebook_id) == 1
        assert losant.requests[-1].status is None
    # Stopping ends the wait, and the response is sent.
    thread.join(5)
    client.session.close()
    assert losant.requests[-1].status == 200


@pytest.mark.parametrize(
    ("fault", "content", "count"),
    [
        (Fault("empty"), b"", 1),
        (Fault("wrong_shape"), b"[]", 1),
        (Fault("gzip_bomb", size=1_000_000), b" " * (16 * 65_536), 0),
        (Fault("gzip_bomb", size=10, processed=True), b" " * 65_536, 1),
        (Fault("endless", seconds=0), b"", 0),
    ],
    ids=["empty", "wrong_shape", "gzip_bomb", "gzip_bomb, processed", "endless"],
)
def test_the_body_of_a_response_can_be_wrong(
    client: ApiClient, notebook_id: str, fault: Fault, content: bytes, count: int
) -> None:
    response = execute_with(client, notebook_id, fault)

    assert (response.status_code, response.content) == (200, content)
    assert count_executions(client, notebook_id) == count


def test_the_content_type_of_a_response_can_be_wrong(client: ApiClient, notebook_id: str) -> None:
    response = execute_with(client, notebook_id, Fault("wrong_content_type"))

    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.json()["success"]


def test_a_body_can_be_slow(client: ApiClient, notebook_id: str) -> None:
    start = time.monotonic()

    response = execute_with(client, notebook_id, Fault("slow_body", seconds=0.05))

    assert time.monotonic() - start >= 0.05
    assert response.json()["success"]


def test_an_endless_body_ends_when_the_client_disconnects(client: ApiClient, notebook_id: str) -> None:
    client.losant.inject("notebook.get", Fault("endless", seconds=60))

    with client.call("GET", f"/notebooks/{notebook_id}", stream=True) as response:
        chunks = response.iter_content(10_000)
        assert sum(len(next(chunks)) for _ in range(100)) > 100_000


def test_every_object_in_a_response_can_have_unknown_fields(client: ApiClient, notebook_id: str) -> None:
    client.execute(notebook_id)
    client.losant.inject("notebook.logs", Fault("extra_fields"))

    (entry,) = client.logs(notebook_id)

    assert entry["_unknown"]
    assert entry["inputInfo"] == {"_unknown": entry["_unknown"]}


def test_a_response_can_lack_all_optional_fields(client: ApiClient, notebook_id: str) -> None:
    execution_id = client.execute(notebook_id)
    client.losant.inject("notebook.logs", Fault("missing_fields"))

    (entry,) = client.logs(notebook_id)

    assert entry == {
        "id": execution_id,
        "notebookExecutionId": execution_id,
        "notebookId": notebook_id,
        "applicationId": client.losant.application_id,
        "status": entry["status"],
    }


def test_only_faults_of_files_get_apply_to_files(client: ApiClient) -> None:
    notebook_id = client.losant.add_notebook()
    client.losant.script(notebook_id, Script(notebook=0, files={"out.csv": b"a,b"}))
    client.execute(notebook_id)
    entry = client.wait(notebook_id)
    client.losant.inject("*", Fault("server_error"))
    assert client.file(entry, "out.csv") == "a,b"

    client.losant.inject("files.get", Fault("truncated"))
    unsigned = client.session.get(entry["outputInfo"]["out.csv"]["url"].partition("?")[0], timeout=5)
    assert unsigned.status_code == 403
    assert client.file(entry, "out.csv") == "a"
    client.losant.inject("files.get", Fault("extra_fields"))
    assert client.file(entry, "out.csv") == "a,b"


def test_losants_clock_can_be_ahead(client: ApiClient, notebook_id: str) -> None:
    client.losant.switches.clock_skew = 600.0

    response = client.call("GET", f"/notebooks/{notebook_id}")

    ahead = parsedate_to_datetime(response.headers["Date"]).timestamp() - time.time()
    assert 590 < ahead < 610
    assert int(client.execute(notebook_id)[:8], 16) - time.time() > 590


def test_a_fault_applies_to_the_given_number_of_requests(client: ApiClient, notebook_id: str) -> None:
    client.losant.inject("*", Fault("server_error"), times=2)

    statuses = [client.call("GET", f"/notebooks/{notebook_id}").status_code for _ in range(3)]

    assert statuses == [503, 503, 200]


def test_stopping_the_emulator_ends_a_hang() -> None:
    with Emulator() as losant:
        client = ApiClient(losant)
        notebook_id = losant.add_notebook()
        losant.inject("notebook.get", Fault("hang", seconds=60))

        def send() -> None:
            with pytest.raises(requests.ConnectionError):
                client.call("GET", f"/notebooks/{notebook_id}")

        thread = threading.Thread(target=send)
        thread.start()
        wait_until(lambda: losant.requests, 4)
    thread.join(5)
    client.session.close()

    assert not thread.is_alive()
