# SPDX-License-Identifier: Apache-2.0
"""One task has one execution, whichever request is lost, process is killed or task is cleared."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.metadata import version
from signal import SIGKILL
from typing import Any

import pytest
import requests

from airflow_provider_losant.emulator import Fault, Script
from tests.journeys.test_one_at_a_time import CLEARED_ALONE
from tests.support.journey import ENDLESS, RESULT_KEYS, SHORT, Journey

BOTH_MODES = pytest.mark.parametrize("mode", ["", "_deferred"], ids=["waiting", "deferred"])
LONG_ENOUGH = 25.0 if version("apache-airflow").startswith("2.") else 10.0
"""Seconds of an execution whose task is killed and retried meanwhile; Airflow 2 notices the death later."""
RETRIED_WHEN_KILLED = pytest.mark.every_airflow(not_3_0="Airflow 3.0 does not retry a task that was killed")


def marker_of(execution: dict[str, str]) -> dict[str, Any]:
    """Return the marker in an execution's context."""
    found: dict[str, Any] = json.loads(execution["templateContext"])["airflow"]
    return found


def assert_result_of_execution(number: int, journey: Journey) -> None:
    """Check that the task succeeds with the complete result of this execution, and links to it."""
    assert journey.wait_for_end() == "success"
    result = journey.result
    assert result["execution_id"] == journey.executions[number]["id"]
    assert result["status"] == "completed"
    assert set(result) == RESULT_KEYS
    assert result["durations"]["total"] >= 0
    assert list(result["outputs"]) == ["report.csv"]
    assert journey.link == result["url"]


@pytest.mark.every_airflow
@pytest.mark.parametrize("variant", ["waiting", "deferred"])
def test_a_first_try_submits_once_and_searches_for_nothing_before(journey: Journey, variant: str) -> None:
    journey.start(variant)

    assert_result_of_execution(0, journey)
    operations = [it.operation for it in journey.requests]
    assert operations[0] == "notebook.execute"
    assert operations.count("notebook.execute") == 1
    assert journey.requests_to("cancelExecution") == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault("reset_after"),
        Fault("truncated"),
        Fault("server_error", status=503, processed=True),
        Fault("hang", seconds=5, processed=True),
    ],
    ids=lambda fault: str(fault.kind),
)
def test_a_lost_submit_response_reconnects_to_the_execution(journey: Journey, fault: Fault) -> None:
    journey.losant.inject("notebook.execute", fault)
    journey.start("waiting", extra={"timeout": 2})

    assert_result_of_execution(0, journey)
    assert len(journey.requests_to("execute")) == len(journey.executions) == 1
    assert "Reconnecting to execution" in journey.log()


def test_a_lost_submit_response_reconnects_though_the_log_lags(journey: Journey) -> None:
    journey.losant.switches.listing_lag = 2.0
    journey.losant.inject("notebook.execute", Fault("reset_after"))
    journey.start("deferred")

    assert_result_of_execution(0, journey)
    assert len(journey.requests_to("execute")) == len(journey.executions) == 1


def test_a_lost_submission_that_had_no_effect_is_repeated(journey: Journey) -> None:
    journey.losant.inject("notebook.execute", Fault("reset_before"))
    journey.start("waiting")

    assert_result_of_execution(0, journey)
    assert len(journey.requests_to("execute")) == 2
    assert len(journey.executions) == 1


def test_a_refused_connection_is_tried_again(journey: Journey) -> None:
    journey.connect()
    journey.losant.script(journey.notebook_id, SHORT)
    with journey.outage():
        journey.start("waiting", waits=False)
        journey.wait_for_state("running")
        journey.wait_until(lambda: "no connection" in journey.log(), "the task to be refused")

    assert_result_of_execution(0, journey)
    assert len(journey.requests_to("execute")) == len(journey.executions) == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_too_many_requests_are_tried_again_but_not_before_losant_said(journey: Journey, form: str) -> None:
    # A date has whole seconds, and must be in the future when the task has started.
    date = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=15)
    wait = Fault("rate_limited", retry_after=2 if form == "seconds" else format_datetime(date, usegmt=True))
    journey.losant.inject("notebook.execute", wait)
    journey.start("waiting")

    assert_result_of_execution(0, journey)
    refused, taken = journey.requests_to("execute")
    assert (refused.status, taken.status) == (429, 200)
    earliest = refused.at + 2 if form == "seconds" else date.timestamp()
    assert taken.at >= earliest - 0.05
    assert len(journey.executions) == 1


@RETRIED_WHEN_KILLED
def test_the_retry_of_a_killed_worker_reconnects_to_the_running_execution(journey: Journey) -> None:
    journey.start("retrying", Script(notebook=LONG_ENOUGH, files={"report.csv": b"1"}))
    journey.wait_for_poll()
    link = journey.link

    journey.signal(SIGKILL)

    assert_result_of_execution(0, journey)
    assert journey.task["try_number"] == 2
    assert journey.link == link
    assert len(journey.requests_to("execute")) == len(journey.executions) == 1
    assert journey.requests_to("cancelExecution") == []
    assert "Reconnecting to execution" in journey.log(2)


@RETRIED_WHEN_KILLED
@BOTH_MODES
def test_a_worker_killed_before_the_response_leaves_an_execution_that_the_retry_finds(
    journey: Journey, mode: str
) -> None:
    journey.losant.inject("notebook.execute", Fault("slow", seconds=30, processed=True))
    journey.start(f"retrying{mode}", Script(notebook=LONG_ENOUGH, files={"report.csv": b"1"}))
    journey.wait_until(lambda: journey.executions, "an execution")

    journey.signal(SIGKILL)

    assert_result_of_execution(0, journey)
    assert journey.task["try_number"] == 2
    assert len(journey.requests_to("execute")) == len(journey.executions) == 1
    assert journey.requests_to("cancelExecution") == []


@BOTH_MODES
def test_the_retry_gets_the_result_of_an_execution_that_completed_without_polls(
    journey: Journey, mode: str
) -> None:
    journey.losant.inject("notebook.execute", Fault("slow", seconds=30, processed=True))
    journey.start(f"late_retry{mode}", Script(notebook=1.0, files={"report.csv": b"1"}))
    journey.wait_until(lambda: journey.executions, "an execution")

    journey.signal(SIGKILL)

    assert_result_of_execution(0, journey)
    assert journey.statuses == ["completed"]
    assert len(journey.requests_to("execute")) == 1
    assert "(status: completed)" in journey.log(2)


@pytest.mark.every_airflow
@BOTH_MODES
@pytest.mark.parametrize("ending", ["errored", "timeout"])
def test_the_retry_of_a_failed_execution_submits_again(journey: Journey, ending: str, mode: str) -> None:
    journey.start(f"late_retry{mode}", Script(ending=ending, errors=(("ValueError", "boom"),)))
    journey.wait_for_state("up_for_retry")
    journey.losant.script(journey.notebook_id, SHORT)

    journey.wait_for_state("success", "failed", try_number=2)

    assert_result_of_execution(1, journey)
    assert journey.statuses == [ending, "completed"]
    assert len(journey.requests_to("execute")) == 2
    assert journey.requests_to("cancelExecution") == []


def test_the_retry_of_an_execution_canceled_by_a_user_submits_again(journey: Journey) -> None:
    journey.start("late_retry", ENDLESS)
    journey.wait_for_poll()
    journey.losant.script(journey.notebook_id, SHORT)

    cancel_in_losant(journey, journey.executions[0]["id"])

    journey.wait_for_state("up_for_retry")
    journey.wait_for_state("success", "failed", try_number=2)
    assert_result_of_execution(1, journey)
    assert journey.statuses == ["canceled", "completed"]
    assert len(journey.requests_to("execute")) == 2


@pytest.mark.every_airflow
@BOTH_MODES
def test_clearing_a_task_that_had_succeeded_runs_the_notebook_again(journey: Journey, mode: str) -> None:
    journey.start("deferred" if mode else "waiting")
    assert_result_of_execution(0, journey)

    journey.clear()

    assert_result_of_execution(1, journey)
    assert journey.statuses == ["completed", "completed"]
    assert len(journey.requests_to("execute")) == 2
    first, second = map(marker_of, journey.executions)
    assert (first["try_number"], first["max_tries"]) == (1, 0)
    assert (second["try_number"], second["max_tries"]) == (2, 1)


def test_clearing_a_task_that_had_failed_runs_the_notebook_again(journey: Journey) -> None:
    journey.start("waiting", Script(ending="errored"))
    assert journey.wait_for_end() == "failed"
    journey.losant.script(journey.notebook_id, SHORT)

    journey.clear()

    assert_result_of_execution(1, journey)
    assert journey.statuses == ["errored", "completed"]
    assert len(journey.requests_to("execute")) == 2


@BOTH_MODES
def test_an_execution_from_before_a_clear_is_cancelled_before_the_next_begins(
    journey: Journey, mode: str
) -> None:
    journey.start("deferred" if mode else "waiting", ENDLESS)
    journey.wait_for_state("deferred" if mode else "running")
    journey.wait_for_poll()
    # The cancel that belongs to the clear is lost, with its retries: a worker and a triggerer have three.
    journey.losant.inject("notebook.cancelExecution", Fault("server_error"), times=6)
    journey.losant.script(journey.notebook_id, SHORT)

    journey.clear()

    assert_result_of_execution(1, journey)
    assert journey.statuses == ["canceled", "completed"]
    agreed = [it for it in journey.requests_to("cancelExecution") if it.status == 200]
    assert [it.query["executionId"] for it in agreed] == [journey.executions[0]["id"]]
    assert agreed[0].at < journey.requests_to("execute")[1].at
    assert len(journey.requests_to("execute")) == 2


@CLEARED_ALONE
def test_without_cancel_on_kill_a_clear_leaves_the_old_execution_running(
    own_journey: Journey,
) -> None:
    journey = own_journey
    journey.start("keeping", ENDLESS)
    journey.wait_for_poll()
    journey.losant.script(journey.notebook_id, SHORT)

    journey.clear()

    assert_result_of_execution(1, journey)
    assert journey.statuses == ["inProgress", "completed"]
    assert journey.requests_to("cancelExecution") == []


@pytest.mark.parametrize(("variant", "sent"), [("own_key", {"airflow": "mine"}), ("not_durable", None)])
def test_a_context_with_a_key_airflow_or_without_durable_is_sent_unchanged_with_one_warning(
    journey: Journey, variant: str, sent: object
) -> None:
    journey.start(variant)

    assert_result_of_execution(0, journey)
    (submission,) = journey.requests_to("execute")
    text = submission.body.get("templateContext")
    assert (text and json.loads(text)) == sent
    assert journey.log().count("A retry cannot reconnect to this execution") == 1


def test_the_task_state_store_names_the_execution_and_a_clear_does_not_bring_it_back(
    journey: Journey,
) -> None:
    journey.start("waiting")
    assert_result_of_execution(0, journey)
    path = f"/dags/{journey.dag_id}/dagRuns/{journey.run_id}/taskInstances/run/state-store"
    stored = journey.airflow.request("GET", path)
    assert journey.executions[0]["id"] in json.dumps(stored)

    journey.clear()

    assert_result_of_execution(1, journey)
    assert len(journey.requests_to("execute")) == 2
    assert journey.executions[1]["id"] in json.dumps(journey.airflow.request("GET", path))


def test_every_mapped_task_has_an_execution_and_an_owner_of_its_own(journey: Journey) -> None:
    journey.start("mapped")

    assert journey.wait_for_end() == "success"
    markers = [marker_of(it) for it in journey.executions]
    assert sorted(it["map_index"] for it in markers) == [0, 1]
    results = [
        journey.airflow.xcom(journey.dag_id, journey.run_id, "run", map_index=index) for index in (0, 1)
    ]
    assert {it["execution_id"] for it in results} == {it["id"] for it in journey.executions}
    assert len(journey.requests_to("execute")) == 2


def cancel_in_losant(journey: Journey, execution_id: str) -> None:
    """Cancel an execution without Airflow, as in Losant's web pages."""
    losant = journey.losant
    response = requests.post(
        f"{losant.url}/applications/{losant.application_id}/notebooks/{journey.notebook_id}/cancelExecution",
        params={"executionId": execution_id},
        headers={"Authorization": f"Bearer {losant.token}"},
        timeout=10,
    )
    assert response.ok
