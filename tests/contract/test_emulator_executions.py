# SPDX-License-Identifier: Apache-2.0
"""Scripted executions over real HTTP: the log, cancelling, result files, and the switches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_losant.emulator import Emulator, Script, Switches
from tests.contract.api_client import ApiClient


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_770_000_000.25

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def losant(clock: Clock) -> Iterator[Emulator]:
    with Emulator(clock=clock) as emulator:
        yield emulator


@pytest.fixture
def notebook_id(losant: Emulator) -> str:
    notebook_id = losant.add_notebook(name="Energy")
    losant.script(
        notebook_id, Script(queue=10, inputs=10, notebook=10, outputs=10, files={"report.csv": b"a,b\n"})
    )
    return notebook_id


def test_the_log_has_one_entry_by_default(client: ApiClient, notebook_id: str, clock: Clock) -> None:
    ids = []
    for _ in range(3):
        ids.append(client.execute(notebook_id))
        clock.now += 1

    assert [entry["id"] for entry in client.logs(notebook_id)] == [ids[2]]
    assert [entry["id"] for entry in client.logs(notebook_id, limit=50)] == ids[::-1]
    assert [entry["id"] for entry in client.logs(notebook_id, limit="abc")] == [ids[2]]


def test_since_includes_the_entry_queued_at_that_time(
    client: ApiClient, notebook_id: str, clock: Clock
) -> None:
    client.execute(notebook_id)
    clock.now += 60.001
    second = client.execute(notebook_id)

    since = round(clock.now * 1000)

    assert [entry["id"] for entry in client.logs(notebook_id, limit=9, since=since)] == [second]
    assert client.logs(notebook_id, limit=9, since=since + 1) == []
    assert len(client.logs(notebook_id, limit=9, since=since - 60_001)) == 2


def test_an_execution_goes_through_its_phases(client: ApiClient, notebook_id: str, clock: Clock) -> None:
    execution_id = client.execute(
        notebook_id, relativeTo="2026-01-31T00:00:00Z", templateContext='{"site":"north"}'
    )
    entries = []
    for _ in range(5):
        entries.append(client.logs(notebook_id)[0])
        clock.now += 10

    assert execution_id[:8] == f"{int(clock.now - 50):08x}"
    assert [entry["status"] for entry in entries] == [
        "queued",
        "inProgress",
        "inProgress",
        "inProgress",
        "completed",
    ]
    assert [len([key for key in entry if key.endswith("At")]) for entry in entries] == [1, 2, 3, 4, 5]
    assert entries[0]["notebookExecutionId"] == execution_id
    assert entries[0]["templateContext"] == '{"site":"north"}'
    assert entries[0]["executionRelativeTo"] == "2026-01-31T00:00:00.000Z"
    assert (entries[3]["outputInfo"], list(entries[4]["outputInfo"])) == ({}, ["report.csv"])


def test_an_invalid_query_time_silently_means_now(
    client: ApiClient, notebook_id: str, losant: Emulator
) -> None:
    client.execute(notebook_id, relativeTo="{{ data_interval_end }}")
    entry = client.logs(notebook_id)[0]
    losant.switches.relative_to_fallback = False
    refused = client.call("POST", f"/notebooks/{notebook_id}/execute", json={"relativeTo": "soon"})

    assert entry["executionRelativeTo"] == entry["runQueuedAt"]
    assert refused.status_code == 400


def test_a_cancelled_execution_is_canceling_before_it_is_canceled(
    client: ApiClient, losant: Emulator, notebook_id: str, clock: Clock
) -> None:
    losant.switches.cancel_delay = 5
    execution_id = client.execute(notebook_id)
    clock.now += 15

    response = client.cancel(notebook_id, execution_id.upper())
    first = client.logs(notebook_id)[0]["status"]
    again = client.cancel(notebook_id, execution_id)
    clock.now += 5

    assert (response.status_code, response.json()) == (200, {"success": True})
    assert again.status_code == 200
    assert (first, client.logs(notebook_id)[0]["status"]) == ("canceling", "canceled")


@pytest.mark.parametrize(("switch", "status"), [("not_found", 404), ("bad_request", 400), ("ok", 200)])
def test_cancelling_an_ended_execution_responds_as_the_switch_says(
    client: ApiClient, losant: Emulator, notebook_id: str, clock: Clock, *, switch: Any, status: int
) -> None:
    losant.switches.cancel_final = switch
    execution_id = client.execute(notebook_id)
    clock.now += 60

    assert client.cancel(notebook_id, execution_id).status_code == status
    assert client.logs(notebook_id)[0]["status"] == "completed"


def test_cancelling_an_unknown_execution_is_404(client: ApiClient, notebook_id: str) -> None:
    assert client.cancel(notebook_id, "f" * 24).status_code == 404


def test_result_files_need_a_signature_and_refuse_a_token(
    client: ApiClient, losant: Emulator, notebook_id: str, clock: Clock
) -> None:
    client.execute(notebook_id)
    clock.now += 60
    url = client.logs(notebook_id)[0]["outputInfo"]["report.csv"]["url"]
    leaked = client.session.get(url, headers={"Authorization": f"Bearer {losant.token}"}, timeout=10)
    plain = client.session.get(url, timeout=10)
    unsigned = client.session.get(url.split("?")[0], timeout=10)
    clock.now += losant.switches.file_url_ttl + 1
    expired = client.session.get(url, timeout=10)

    assert url.startswith(losant.files_url)
    assert not url.startswith(losant.url)
    assert (plain.status_code, plain.content) == (200, b"a,b\n")
    assert [leaked.status_code, unsigned.status_code, expired.status_code] == [403, 403, 403]
    assert client.file(client.logs(notebook_id)[0], "report.csv") == "a,b\n"


@pytest.mark.parametrize("path", ["outputs/missing.csv", "outputs", "work/report.csv"])
def test_a_signed_url_of_what_is_no_file_of_an_execution_is_404(
    client: ApiClient, losant: Emulator, notebook_id: str, clock: Clock, path: str
) -> None:
    url = losant.backend.signed_url(f"/{client.execute(notebook_id)}/{path}", clock.now)

    response = client.session.get(url, timeout=10)

    assert (response.status_code, "<Code>NoSuchKey</Code>" in response.text) == (404, True)


def test_the_url_of_a_file_lives_for_fifteen_minutes(
    client: ApiClient, notebook_id: str, clock: Clock
) -> None:
    client.execute(notebook_id)
    clock.now += 60
    url = client.logs(notebook_id)[0]["outputInfo"]["report.csv"]["url"]

    statuses = []
    for later in (890, 20):
        clock.now += later
        statuses.append(client.session.get(url, timeout=10).status_code)
    assert statuses == [200, 403]


def test_urls_that_are_not_signed_again_expire_for_good(
    client: ApiClient, losant: Emulator, notebook_id: str, clock: Clock
) -> None:
    losant.switches.resign_urls = False
    client.execute(notebook_id)
    clock.now += 60 + losant.switches.file_url_ttl

    url = client.logs(notebook_id)[0]["outputInfo"]["report.csv"]["url"]

    assert client.session.get(url, timeout=10).status_code == 403


def test_listing_lag_hides_new_executions(
    client: ApiClient, losant: Emulator, notebook_id: str, clock: Clock
) -> None:
    losant.switches.listing_lag = 5
    client.execute(notebook_id)
    hidden = client.logs(notebook_id)
    clock.now += 6

    assert (hidden, len(client.logs(notebook_id))) == ([], 1)
    assert len(losant.executions(notebook_id)) == 1


def test_cancel_lag_makes_a_new_execution_unknown_to_a_cancel(
    client: ApiClient, losant: Emulator, notebook_id: str, clock: Clock
) -> None:
    losant.switches.cancel_lag = 5
    execution_id = client.execute(notebook_id)
    refused = client.cancel(notebook_id, execution_id).status_code
    listed = client.logs(notebook_id)[0]["status"]
    clock.now += 6

    assert (refused, listed) == (404, "queued")
    assert client.cancel(notebook_id, execution_id).status_code == 200


def test_executions_above_parallel_can_be_refused(
    client: ApiClient, losant: Emulator, notebook_id: str
) -> None:
    losant.switches.change({"over_parallel": "refuse", "parallel": 1, "refusal_status": 402})
    client.execute(notebook_id)

    response = client.call("POST", f"/notebooks/{notebook_id}/execute", json={})

    assert (response.status_code, response.json()["type"]) == (402, "ExecutionLimitExceeded")


def test_the_limits_are_those_of_one_application(
    client: ApiClient, losant: Emulator, notebook_id: str
) -> None:
    losant.switches.change({"over_parallel": "refuse", "parallel": 1})
    other = losant.add_application()
    foreign = losant.add_notebook(application_id=other)
    losant.script(foreign, Script(ending="hang"))
    url = f"{losant.url}/applications/{other}/notebooks/{foreign}/execute"
    token = {"Authorization": f"Bearer {losant.add_token(application_id=other)}"}

    in_other = client.session.post(url, json={}, headers=token, timeout=10)
    in_own = client.call("POST", f"/notebooks/{notebook_id}/execute", json={})

    assert (in_other.status_code, in_own.status_code) == (200, 200)


def test_executions_above_the_run_minutes_are_refused(
    client: ApiClient, losant: Emulator, notebook_id: str, clock: Clock
) -> None:
    losant.switches.notebook_minutes = 1
    client.execute(notebook_id)
    clock.now += 60

    assert client.call("POST", f"/notebooks/{notebook_id}/execute", json={}).status_code == 400


@pytest.mark.parametrize(("field", "count"), [("queued", 0), ("started", 0), ("completed", 1)])
def test_since_can_refer_to_another_timestamp(
    client: ApiClient, losant: Emulator, notebook_id: str, clock: Clock, *, field: Any, count: int
) -> None:
    losant.switches.since_field = field
    client.execute(notebook_id)
    clock.now += 41

    assert len(client.logs(notebook_id, limit=9, since=int((clock.now - 5) * 1000))) == count


def test_the_limit_can_have_a_maximum(client: ApiClient, losant: Emulator, notebook_id: str) -> None:
    losant.switches.max_limit = 2
    for _ in range(3):
        client.execute(notebook_id)

    assert len(client.logs(notebook_id, limit=1000)) == 2


def test_a_limit_can_be_refused(client: ApiClient, losant: Emulator, notebook_id: str) -> None:
    losant.switches.refuse_limit_above = 200

    assert client.call("GET", f"/notebooks/{notebook_id}/logs?limit=201").status_code == 400
    assert client.call("GET", f"/notebooks/{notebook_id}/logs?limit=200").status_code == 200


def test_the_log_can_have_entries_of_any_shape(
    client: ApiClient, losant: Emulator, notebook_id: str, clock: Clock
) -> None:
    first = client.execute(notebook_id)
    clock.now += 1
    losant.add_log_entry(notebook_id, {"status": 7})
    clock.now += 1
    second = client.execute(notebook_id)

    assert [it.get("id", it["status"]) for it in client.logs(notebook_id, limit=9)] == [second, 7, first]


def test_a_notebook_without_a_file_fails_in_the_run_or_at_once(client: ApiClient, losant: Emulator) -> None:
    notebook_id = losant.add_notebook()
    client.execute(notebook_id)
    losant.switches.execute_without_file = "bad_request"
    refused = client.call("POST", f"/notebooks/{notebook_id}/execute", json={})

    assert client.logs(notebook_id)[0]["status"] == "errored"
    assert client.logs(notebook_id)[0]["executionErrors"][0]["name"] == "MissingFileError"
    assert refused.status_code == 400


def test_a_script_can_provide_the_pdf_that_the_emulator_does_not_produce(
    client: ApiClient, losant: Emulator, clock: Clock
) -> None:
    notebook_id = losant.add_notebook(outputs=[{"outputType": "executionResult", "fileName": "result.pdf"}])
    losant.script(notebook_id, Script(notebook=0, files={"result.pdf": b"%PDF-1.7"}))

    client.execute(notebook_id)
    (entry,) = client.logs(notebook_id)

    assert entry["outputInfo"]["result.pdf"]["contentType"] == "application/pdf"
    assert (client.file(entry, "result.pdf"), entry["executionErrors"]) == ("%PDF-1.7", [])


def test_minutes_and_final_statuses_are_counted_by_day(
    client: ApiClient, losant: Emulator, notebook_id: str, clock: Clock
) -> None:
    client.execute(notebook_id)
    losant.script(notebook_id, Script(notebook=90, ending="errored"))
    client.execute(notebook_id)
    losant.script(notebook_id, Script(notebook=30, ending="lost"))
    client.execute(notebook_id)
    losant.script(notebook_id, Script(notebook=1000))
    client.execute(notebook_id)
    clock.now += 100

    counts = client.call("GET", f"/notebooks/{notebook_id}/notebookMinuteCounts").json()["counts"]

    assert counts == [
        {
            "date": "2026-02-02T00:00:00.000Z",
            "minutes": 4,  # also of a status that Losant does not document, but not of a running execution
            "completed": 1,
            "errored": 1,
            "timeout": 0,
            "canceled": 0,
        }
    ]
    stats = client.call("GET", f"/notebooks/{notebook_id}").json()["stats"]
    assert stats == {"minutesThisPeriod": 6, "runsThisPeriod": 4, "errorsThisPeriod": 1}


def test_scripted_executions_continue_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    with Emulator(clock=clock, data_dir=tmp_path) as before:
        notebook_id = before.add_notebook()
        before.script(notebook_id, Script(notebook=60, files={"a.bin": b"\xff"}))
        client = ApiClient(before)
        execution_id = client.execute(notebook_id)
        client.session.close()
        identity = (before.token, before.application_id)
    clock.now += 61

    with Emulator(clock=clock, data_dir=tmp_path, switches=Switches()) as after:
        client = ApiClient(after)
        entry = client.logs(notebook_id)[0]
        content = client.session.get(entry["outputInfo"]["a.bin"]["url"], timeout=10).content
        client.session.close()

    assert (after.token, after.application_id) == identity
    assert (entry["id"], entry["status"], content) == (execution_id, "completed", b"\xff")


def test_a_deleted_notebook_stays_deleted_after_a_restart_with_its_executions_and_files(
    tmp_path: Path, clock: Clock
) -> None:
    with Emulator(clock=clock, data_dir=tmp_path) as before:
        notebook_id, kept = before.add_notebook("Deleted"), before.add_notebook("Kept")
        client = ApiClient(before)
        for one in (notebook_id, kept):
            before.script(one, Script(notebook=0, files={"a.csv": b"a"}))
            client.execute(one)
        client.call("DELETE", f"/notebooks/{notebook_id}")
        client.session.close()

    with Emulator(clock=clock, data_dir=tmp_path) as after:
        assert list(after.backend.notebooks) == [kept]
        assert [len(list(after.backend.executions(one))) for one in (notebook_id, kept)] == [0, 1]
    assert len(list(tmp_path.rglob("a.csv"))) == 1


def test_two_emulators_run_side_by_side_and_delete_their_folders() -> None:
    start = time.monotonic()
    with Emulator() as one, Emulator() as two:
        folders = [one.backend.folder, two.backend.folder]
        assert one.url != two.url
        assert one.token != two.token

    assert not any(folder.exists() for folder in folders)
    assert time.monotonic() - start < 5
