# SPDX-License-Identifier: Apache-2.0
"""One deadline for each execution, whoever waits for it; and what happens when a trigger never fires."""

from __future__ import annotations

import time
from signal import SIGKILL
from typing import TYPE_CHECKING

import pytest

from airflow_provider_losant.emulator import Fault, Script
from tests.support.journey import FOR_EVER, Stage, settle
from tests.support.postgres import execute

if TYPE_CHECKING:
    from tests.support.local_airflow import LocalAirflow

BOTH_MODES = pytest.mark.parametrize("mode", ["", "_deferred"], ids=["waiting", "deferred"])


def waited(stage: Stage) -> float:
    """Return the seconds from the order of the only execution to its only cancel."""
    (order,), (cancel,) = stage.saw("execute"), stage.saw("cancelExecution")
    return cancel.at - order.at


@BOTH_MODES
def test_when_our_timeout_has_passed_the_execution_is_cancelled_and_the_task_says_so(
    stage: Stage, mode: str
) -> None:
    stage.play(f"limited{mode}", FOR_EVER)

    assert stage.end() == "failed"
    assert stage.statuses == ["canceled"]
    assert 3.5 <= waited(stage) < 20
    assert "timeout (4) was over: it was cancelled" in stage.log()
    assert len(stage.saw("execute")) == 1


@BOTH_MODES
def test_without_cancel_on_timeout_the_execution_is_left_alone_and_the_task_says_so(
    stage: Stage, mode: str
) -> None:
    stage.play(f"lenient{mode}", FOR_EVER)

    assert stage.end() == "failed"
    settle()
    assert stage.statuses == ["inProgress"]
    assert stage.saw("cancelExecution") == []
    assert "timeout (4) was over: it was left alone" in stage.log()


@BOTH_MODES
def test_when_execution_timeout_has_passed_the_execution_is_cancelled_once(stage: Stage, mode: str) -> None:
    stage.play(f"hurried{mode}", FOR_EVER)

    assert stage.end() == "failed"
    settle()
    assert stage.statuses == ["canceled"]
    assert waited(stage) < 20
    assert len(stage.saw("execute")) == 1


def test_an_execution_timeout_while_the_order_is_in_flight_cancels_what_has_begun(stage: Stage) -> None:
    stage.losant.inject("notebook.execute", Fault("slow", seconds=15, processed=True))
    stage.play("hurried", FOR_EVER)

    assert stage.end() == "failed"
    stage.wait_until(lambda: stage.saw("cancelExecution"), "a cancel")
    settle()
    assert stage.statuses == ["canceled"]
    assert len(stage.saw("cancelExecution")) == len(stage.saw("execute")) == 1


def test_the_time_of_a_retry_counts_from_the_submission(stage: Stage) -> None:
    stage.play("limited_retrying", FOR_EVER)
    stage.wait_until_watched()

    stage.signal(SIGKILL)

    assert stage.end() == "failed"
    assert stage.task["try_number"] == 2
    assert stage.statuses == ["canceled"]
    assert 11.5 <= waited(stage) < 30
    assert len(stage.saw("execute")) == 1


def test_a_crash_of_the_trigger_does_not_fail_a_task_whose_execution_has_completed(stage: Stage) -> None:
    # The trigger crashes as soon as it is loaded; until the worker is back, this execution is over.
    stage.play("crashing", Script(notebook=0.2))

    assert stage.end() == "success"
    assert stage.result["execution_id"] == stage.executions[0]["id"]
    assert stage.statuses == ["completed"]
    assert len(stage.saw("execute")) == 1
    assert stage.log().count("The trigger came to no end") == 1


def test_after_some_crashes_of_the_trigger_the_worker_waits_itself(stage: Stage) -> None:
    stage.play("crashing", Script(notebook=35))

    assert stage.end() == "success"
    assert stage.result["execution_id"] == stage.executions[0]["id"]
    assert stage.statuses == ["completed"]
    assert len(stage.saw("execute")) == 1
    assert stage.saw("cancelExecution") == []
    assert stage.log().count("The trigger came to no end") == 4


def test_when_no_triggerer_is_left_the_deferral_timeout_cancels_the_execution_and_fails_the_task(
    airflow: LocalAirflow, lone_stage: Stage
) -> None:
    stage = lone_stage
    stage.play("limited_deferred", FOR_EVER, waits=False)
    airflow.triggerer.kill()
    try:
        stage.wait_for_state("deferred")
        time.sleep(max(0.0, stage.saw("execute")[0].at + 4 - time.time()))
        bring_deferral_timeout_forward(airflow, stage.run_id)

        assert stage.end() == "failed"
    finally:
        airflow.triggerer.start()
    assert stage.statuses == ["canceled"]
    assert len(stage.saw("cancelExecution")) == len(stage.saw("execute")) == 1
    assert "timeout (4) was over: it was cancelled" in stage.log()


def bring_deferral_timeout_forward(airflow: LocalAirflow, run_id: str) -> None:
    """Let the minutes pass that Airflow's net leaves below our deadline."""
    moved = execute(
        airflow.database,
        "UPDATE task_instance SET trigger_timeout = start_date"
        " WHERE run_id = :run_id AND state = 'deferred' RETURNING id",
        run_id=run_id,
    )
    assert len(moved) == 1
