# SPDX-License-Identifier: Apache-2.0
"""One task, one execution: whatever is lost on the way, dies, or is cleared."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.metadata import version
from signal import SIGKILL

import pytest
import requests

from airflow_provider_losant.emulator import Fault, Script
from tests.support.journey import FOR_EVER, RESULT_KEYS, SHORT, Stage

BOTH_MODES = pytest.mark.parametrize("mode", ["", "_deferred"], ids=["waiting", "deferred"])
WHILE_IT_LASTS = 25.0 if version("apache-airflow").startswith("2.") else 10.0
"""Seconds an execution takes whose task dies and is tried again meanwhile; Airflow 2 notices it later."""
RETRIED_WHEN_KILLED = pytest.mark.every_airflow(not_3_0="Airflow 3.0 does not retry a task that was killed")


def mark_of(execution: dict[str, str]) -> dict[str, str]:
    """Return the mark that the task has left in an execution's context."""
    found: dict[str, str] = json.loads(execution["templateContext"])["airflow"]
    return found


def assert_result_of_execution(number: int, stage: Stage) -> None:
    """Check that the task succeeds with the whole result of this execution, and links to it."""
    assert stage.end() == "success"
    result = stage.result
    assert result["execution_id"] == stage.executions[number]["id"]
    assert result["status"] == "completed"
    assert set(result) == RESULT_KEYS
    assert result["durations"]["total"] >= 0
    assert list(result["outputs"]) == ["report.csv"]
    assert stage.link == result["url"]


@pytest.mark.every_airflow
@pytest.mark.parametrize("story", ["waiting", "deferred"])
def test_a_clean_first_try_asks_once_and_looks_nothing_up_before(stage: Stage, story: str) -> None:
    stage.play(story)

    assert_result_of_execution(0, stage)
    asked = [it.operation for it in stage.requests]
    assert asked[0] == "notebook.execute"
    assert asked.count("notebook.execute") == 1
    assert stage.saw("cancelExecution") == []


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
def test_an_execution_whose_answer_was_lost_is_adopted(stage: Stage, fault: Fault) -> None:
    stage.losant.inject("notebook.execute", fault)
    stage.play("waiting", extra={"timeout": 2})

    assert_result_of_execution(0, stage)
    assert len(stage.saw("execute")) == len(stage.executions) == 1
    assert "adopted execution" in stage.log()


def test_an_adopted_execution_is_found_in_a_log_that_lags(stage: Stage) -> None:
    stage.losant.switches.listing_lag = 2.0
    stage.losant.inject("notebook.execute", Fault("reset_after"))
    stage.play("deferred")

    assert_result_of_execution(0, stage)
    assert len(stage.saw("execute")) == len(stage.executions) == 1


def test_an_order_that_provably_got_lost_is_placed_again(stage: Stage) -> None:
    stage.losant.inject("notebook.execute", Fault("reset_before"))
    stage.play("waiting")

    assert_result_of_execution(0, stage)
    assert len(stage.saw("execute")) == 2
    assert len(stage.executions) == 1


def test_a_refused_connection_is_tried_again(stage: Stage) -> None:
    stage.connect()
    stage.losant.script(stage.notebook_id, SHORT)
    with stage.outage():
        stage.play("waiting", waits=False)
        stage.wait_for_state("running")
        stage.wait_until(lambda: "no connection" in stage.log(), "the task to be refused")

    assert_result_of_execution(0, stage)
    assert len(stage.saw("execute")) == len(stage.executions) == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_too_many_requests_are_tried_again_but_not_before_losant_said(stage: Stage, form: str) -> None:
    # A date is whole seconds, and has to lie ahead still when the task has started.
    date = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=15)
    wait = Fault("rate_limited", retry_after=2 if form == "seconds" else format_datetime(date, usegmt=True))
    stage.losant.inject("notebook.execute", wait)
    stage.play("waiting")

    assert_result_of_execution(0, stage)
    refused, taken = stage.saw("execute")
    assert (refused.status, taken.status) == (429, 200)
    earliest = refused.at + 2 if form == "seconds" else date.timestamp()
    assert taken.at >= earliest - 0.05
    assert len(stage.executions) == 1


@RETRIED_WHEN_KILLED
def test_the_retry_of_a_killed_worker_takes_over_the_running_execution(stage: Stage) -> None:
    stage.play("retrying", Script(notebook=WHILE_IT_LASTS, files={"report.csv": b"1"}))
    stage.wait_until_watched()
    link = stage.link

    stage.signal(SIGKILL)

    assert_result_of_execution(0, stage)
    assert stage.task["try_number"] == 2
    assert stage.link == link
    assert len(stage.saw("execute")) == len(stage.executions) == 1
    assert stage.saw("cancelExecution") == []
    assert "Took over execution" in stage.log(2)


@RETRIED_WHEN_KILLED
@BOTH_MODES
def test_a_worker_killed_before_the_answer_came_leaves_an_execution_that_the_retry_finds(
    stage: Stage, mode: str
) -> None:
    stage.losant.inject("notebook.execute", Fault("slow", seconds=30, processed=True))
    stage.play(f"retrying{mode}", Script(notebook=WHILE_IT_LASTS, files={"report.csv": b"1"}))
    stage.wait_until(lambda: stage.executions, "an execution")

    stage.signal(SIGKILL)

    assert_result_of_execution(0, stage)
    assert stage.task["try_number"] == 2
    assert len(stage.saw("execute")) == len(stage.executions) == 1
    assert stage.saw("cancelExecution") == []


@BOTH_MODES
def test_an_execution_that_completed_while_nobody_looked_gives_its_result_to_the_retry(
    stage: Stage, mode: str
) -> None:
    stage.losant.inject("notebook.execute", Fault("slow", seconds=30, processed=True))
    stage.play(f"late_retry{mode}", Script(notebook=1.0, files={"report.csv": b"1"}))
    stage.wait_until(lambda: stage.executions, "an execution")

    stage.signal(SIGKILL)

    assert_result_of_execution(0, stage)
    assert stage.statuses == ["completed"]
    assert len(stage.saw("execute")) == 1
    assert "(completed)" in stage.log(2)


@BOTH_MODES
@pytest.mark.parametrize("ending", ["errored", "timeout"])
def test_the_retry_of_a_failed_execution_starts_afresh(stage: Stage, ending: str, mode: str) -> None:
    stage.play(f"late_retry{mode}", Script(ending=ending, errors=(("ValueError", "boom"),)))
    stage.wait_for_state("up_for_retry")
    stage.losant.script(stage.notebook_id, SHORT)

    stage.wait_for_state("success", "failed", try_number=2)

    assert_result_of_execution(1, stage)
    assert stage.statuses == [ending, "completed"]
    assert len(stage.saw("execute")) == 2
    assert stage.saw("cancelExecution") == []


def test_the_retry_of_an_execution_that_somebody_canceled_starts_afresh(stage: Stage) -> None:
    stage.play("late_retry", FOR_EVER)
    stage.wait_until_watched()
    stage.losant.script(stage.notebook_id, SHORT)

    cancel_in_losant(stage, stage.executions[0]["id"])

    stage.wait_for_state("up_for_retry")
    stage.wait_for_state("success", "failed", try_number=2)
    assert_result_of_execution(1, stage)
    assert stage.statuses == ["canceled", "completed"]
    assert len(stage.saw("execute")) == 2


@pytest.mark.every_airflow
@BOTH_MODES
def test_clearing_a_task_that_had_succeeded_runs_the_notebook_again(stage: Stage, mode: str) -> None:
    stage.play("deferred" if mode else "waiting")
    assert_result_of_execution(0, stage)

    stage.clear()

    assert_result_of_execution(1, stage)
    assert stage.statuses == ["completed", "completed"]
    assert len(stage.saw("execute")) == 2
    first, second = map(mark_of, stage.executions)
    assert first["id"] != second["id"]


def test_clearing_a_task_that_had_failed_runs_the_notebook_again(stage: Stage) -> None:
    stage.play("waiting", Script(ending="errored"))
    assert stage.end() == "failed"
    stage.losant.script(stage.notebook_id, SHORT)

    stage.clear()

    assert_result_of_execution(1, stage)
    assert stage.statuses == ["errored", "completed"]
    assert len(stage.saw("execute")) == 2


@BOTH_MODES
def test_an_execution_from_before_a_clear_is_cancelled_before_the_next_begins(
    stage: Stage, mode: str
) -> None:
    stage.play("deferred" if mode else "waiting", FOR_EVER)
    stage.wait_for_state("deferred" if mode else "running")
    stage.wait_until_watched()
    # The cancel that belongs to the clear is lost: a worker tries it once, a triggerer three times.
    stage.losant.inject("notebook.cancelExecution", Fault("server_error"), times=3 if mode else 1)
    stage.losant.script(stage.notebook_id, SHORT)

    stage.clear()

    assert_result_of_execution(1, stage)
    assert stage.statuses == ["canceled", "completed"]
    agreed = [it for it in stage.saw("cancelExecution") if it.status == 200]
    assert [it.query["executionId"] for it in agreed] == [stage.executions[0]["id"]]
    assert agreed[0].at < stage.saw("execute")[1].at
    assert len(stage.saw("execute")) == 2


def test_without_cancel_on_kill_a_clear_leaves_the_old_execution_running_beside_the_new(stage: Stage) -> None:
    stage.play("keeping", FOR_EVER)
    stage.wait_until_watched()
    stage.losant.script(stage.notebook_id, SHORT)

    stage.clear()

    assert_result_of_execution(1, stage)
    assert stage.statuses == ["inProgress", "completed"]
    assert stage.saw("cancelExecution") == []


@pytest.mark.parametrize(("story", "sent"), [("own_key", {"airflow": "mine"}), ("not_durable", None)])
def test_a_context_that_has_a_key_airflow_or_is_not_durable_is_sent_untouched_with_one_warning(
    stage: Stage, story: str, sent: object
) -> None:
    stage.play(story)

    assert_result_of_execution(0, stage)
    (order,) = stage.saw("execute")
    text = order.body.get("templateContext")
    assert (text and json.loads(text)) == sent
    assert stage.log().count("A retry will not find this run again") == 1


def test_the_task_state_store_names_the_execution_and_a_clear_does_not_bring_it_back(stage: Stage) -> None:
    stage.play("waiting")
    assert_result_of_execution(0, stage)
    path = f"/dags/{stage.dag_id}/dagRuns/{stage.run_id}/taskInstances/run/state-store"
    stored = stage.airflow.request("GET", path)
    assert stage.executions[0]["id"] in json.dumps(stored)

    stage.clear()

    assert_result_of_execution(1, stage)
    assert len(stage.saw("execute")) == 2
    assert stage.executions[1]["id"] in json.dumps(stage.airflow.request("GET", path))


def test_every_mapped_task_has_an_execution_and_a_chain_of_its_own(stage: Stage) -> None:
    stage.play("mapped")

    assert stage.end() == "success"
    marks = [mark_of(it) for it in stage.executions]
    assert sorted(mark["map_index"] for mark in marks) == [0, 1]
    assert len({mark["id"] for mark in marks}) == 2
    results = [stage.airflow.xcom(stage.dag_id, stage.run_id, "run", map_index=index) for index in (0, 1)]
    assert {it["execution_id"] for it in results} == {it["id"] for it in stage.executions}
    assert len(stage.saw("execute")) == 2


def cancel_in_losant(stage: Stage, execution_id: str) -> None:
    """Cancel an execution as somebody would in Losant's web pages."""
    losant = stage.losant
    answer = requests.post(
        f"{losant.url}/applications/{losant.application_id}/notebooks/{stage.notebook_id}/cancelExecution",
        params={"executionId": execution_id},
        headers={"Authorization": f"Bearer {losant.token}"},
        timeout=10,
    )
    assert answer.ok
