# SPDX-License-Identifier: Apache-2.0
"""Every kind of fault over real HTTP, and what has taken effect afterwards."""

from __future__ import annotations

import json
import threading
import time
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests

from airflow_provider_losant.emulator import Emulator, Fault, Script
from tests.contract.conftest import Client


@pytest.fixture
def notebook_id(losant: Emulator) -> str:
    made = losant.add_notebook()
    losant.script(made, Script())
    return made


def spoilt(client: Client, notebook_id: str, fault: Fault) -> requests.Response:
    client.losant.inject("notebook.execute", fault)
    return client.call("POST", f"/notebooks/{notebook_id}/execute", json={}, allow_redirects=False)


def executed(client: Client, notebook_id: str) -> int:
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
def test_a_refusal_comes_without_effect(
    client: Client, notebook_id: str, fault: Fault, status: int, header: tuple[Any, Any]
) -> None:
    answer = spoilt(client, notebook_id, fault)

    assert answer.status_code == status
    assert answer.headers.get(header[0] or "Retry-After") == header[1]
    assert executed(client, notebook_id) == 0
    assert client.losant.requests[-1].status == status


def test_a_server_error_can_hide_an_effect(client: Client, notebook_id: str) -> None:
    answer = spoilt(client, notebook_id, Fault("server_error", processed=True))

    assert (answer.status_code, executed(client, notebook_id)) == (503, 1)


def test_a_truncated_answer_is_no_json_but_the_execution_is_there(client: Client, notebook_id: str) -> None:
    answer = spoilt(client, notebook_id, Fault("truncated"))

    assert (answer.status_code, answer.text[:10]) == (200, '{"success"')
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.text)
    assert executed(client, notebook_id) == 1


@pytest.mark.parametrize(("kind", "effects"), [("reset_before", 0), ("reset_after", 1)])
def test_a_reset_comes_before_or_after_the_effect(
    client: Client, notebook_id: str, kind: Any, effects: int
) -> None:
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        spoilt(client, notebook_id, Fault(kind))

    assert executed(client, notebook_id) == effects
    assert client.losant.requests[-1].status is None


@pytest.mark.parametrize("processed", [False, True])
def test_a_hang_answers_nothing_and_then_cuts_the_line(
    client: Client, notebook_id: str, *, processed: bool
) -> None:
    began = time.monotonic()

    with pytest.raises(requests.ConnectionError):
        spoilt(client, notebook_id, Fault("hang", seconds=0.05, processed=processed))

    assert time.monotonic() - began >= 0.05
    assert executed(client, notebook_id) == int(processed)


def test_a_slow_answer_is_late_but_whole(client: Client, notebook_id: str) -> None:
    began = time.monotonic()

    answer = spoilt(client, notebook_id, Fault("slow", seconds=0.05))

    assert time.monotonic() - began >= 0.05
    assert (answer.status_code, executed(client, notebook_id)) == (200, 1)


def test_a_slow_request_can_take_effect_long_before_its_answer() -> None:
    with Emulator() as losant:
        client = Client(losant)
        made = losant.add_notebook()
        losant.script(made, Script())
        fault = Fault("slow", seconds=60, processed=True)
        asking = threading.Thread(target=spoilt, args=(client, made, fault))
        asking.start()
        until = time.monotonic() + 4
        while not executed(client, made) and time.monotonic() < until:
            time.sleep(0.01)

        assert executed(client, made) == 1
        assert losant.requests[-1].status is None
    # Stopping releases whoever waits, with the answer.
    asking.join(5)
    client.session.close()
    assert losant.requests[-1].status == 200


@pytest.mark.parametrize(
    ("fault", "content", "effects"),
    [
        (Fault("empty"), b"", 1),
        (Fault("wrong_shape"), b"[]", 1),
        (Fault("gzip_bomb", size=1_000_000), b" " * (16 * 65_536), 0),
        (Fault("gzip_bomb", size=10, processed=True), b" " * 65_536, 1),
        (Fault("endless", seconds=0), b"", 0),
    ],
    ids=["empty", "wrong_shape", "gzip_bomb", "gzip_bomb, processed", "endless"],
)
def test_an_answer_can_be_another_than_the_right_one(
    client: Client, notebook_id: str, fault: Fault, content: bytes, effects: int
) -> None:
    answer = spoilt(client, notebook_id, fault)

    assert (answer.status_code, answer.content) == (200, content)
    assert executed(client, notebook_id) == effects


def test_a_right_answer_can_be_called_another_thing(client: Client, notebook_id: str) -> None:
    answer = spoilt(client, notebook_id, Fault("wrong_content_type"))

    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.json()["success"]


def test_a_right_answer_can_come_bit_by_bit(client: Client, notebook_id: str) -> None:
    began = time.monotonic()

    answer = spoilt(client, notebook_id, Fault("slow_body", seconds=0.05))

    assert time.monotonic() - began >= 0.05
    assert answer.json()["success"]


def test_an_endless_answer_goes_on_until_its_client_has_gone(client: Client, notebook_id: str) -> None:
    client.losant.inject("notebook.get", Fault("endless", seconds=60))

    with client.call("GET", f"/notebooks/{notebook_id}", stream=True) as answer:
        pieces = answer.iter_content(10_000)
        assert sum(len(next(pieces)) for _ in range(100)) > 100_000


def test_every_object_in_an_answer_can_have_fields_that_nobody_knows(
    client: Client, notebook_id: str
) -> None:
    client.execute(notebook_id)
    client.losant.inject("notebook.logs", Fault("extra_fields"))

    (entry,) = client.logs(notebook_id)

    assert entry["_unknown"]
    assert entry["inputInfo"] == {"_unknown": entry["_unknown"]}


def test_an_answer_can_lack_what_is_not_in_every_one(client: Client, notebook_id: str) -> None:
    run = client.execute(notebook_id)
    client.losant.inject("notebook.logs", Fault("missing_fields"))

    (entry,) = client.logs(notebook_id)

    assert entry == {
        "id": run,
        "notebookExecutionId": run,
        "notebookId": notebook_id,
        "applicationId": client.losant.application_id,
        "status": entry["status"],
    }


def test_a_file_can_go_wrong_too_but_only_when_that_is_ordered_for_files(client: Client) -> None:
    made = client.losant.add_notebook()
    client.losant.script(made, Script(notebook=0, files={"out.csv": b"a,b"}))
    client.execute(made)
    entry = client.wait(made)
    client.losant.inject("*", Fault("server_error"))
    assert client.file(entry, "out.csv") == "a,b"

    client.losant.inject("files.get", Fault("truncated"))
    unsigned = client.session.get(entry["outputInfo"]["out.csv"]["url"].partition("?")[0], timeout=5)
    assert unsigned.status_code == 403
    assert client.file(entry, "out.csv") == "a"


def test_losants_clock_can_be_another_than_ours(client: Client, notebook_id: str) -> None:
    client.losant.switches.clock_skew = 600.0

    answer = client.call("GET", f"/notebooks/{notebook_id}")

    ahead = parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
    assert 590 < ahead < 610
    assert int(client.execute(notebook_id)[:8], 16) - time.time() > 590


def test_a_fault_meets_as_many_requests_as_ordered(client: Client, notebook_id: str) -> None:
    client.losant.inject("*", Fault("server_error"), times=2)

    statuses = [client.call("GET", f"/notebooks/{notebook_id}").status_code for _ in range(3)]

    assert statuses == [503, 503, 200]


def test_stopping_the_emulator_releases_whoever_hangs() -> None:
    with Emulator() as losant:
        client = Client(losant)
        made = losant.add_notebook()
        losant.inject("notebook.get", Fault("hang", seconds=60))

        def ask() -> None:
            with pytest.raises(requests.ConnectionError):
                client.call("GET", f"/notebooks/{made}")

        asking = threading.Thread(target=ask)
        asking.start()
        until = time.monotonic() + 4
        while not losant.requests and time.monotonic() < until:
            time.sleep(0.01)
    asking.join(5)
    client.session.close()

    assert not asking.is_alive()
