# SPDX-License-Identifier: Apache-2.0
"""
Whoever stops a task stops its execution; whoever stops only a triggerer does not.

Marking and clearing a task that waits, in a worker or in the triggerer, are in ``test_marking``.
"""

from __future__ import annotations

import time
from signal import SIGKILL, SIGTERM, Signals
from typing import TYPE_CHECKING

import pytest

from airflow_provider_losant.emulator import Fault, Script
from tests.support.journey import FOR_EVER, Stage, settle

if TYPE_CHECKING:
    from tests.support.local_airflow import LocalAirflow

OPERATORS_BUDGET = 4.0


def assert_cancelled_once(stage: Stage) -> None:
    """Check that the only execution was cancelled by one request, and that nothing was begun after it."""
    stage.wait_until(lambda: stage.saw("cancelExecution"), "a cancel")
    settle()
    assert stage.statuses == ["canceled"]
    assert stage.cancelled() == [stage.executions[0]["id"]]
    assert len(stage.saw("cancelExecution")) == 1
    assert len(stage.saw("execute")) == 1


@pytest.mark.every_airflow
def test_sigterm_to_a_waiting_task_cancels_its_execution_once(stage: Stage) -> None:
    stage.play("waiting", FOR_EVER)
    stage.wait_until_watched()

    stage.signal(SIGTERM)

    assert_cancelled_once(stage)
    assert stage.end() == "failed"
    assert stage.result is None


def test_sigterm_while_a_look_hangs_cancels_the_execution_within_the_time_a_kill_leaves(stage: Stage) -> None:
    stage.play("waiting", FOR_EVER)
    stage.wait_until_watched()
    looks = len(stage.saw("logs"))
    stage.losant.inject("notebook.logs", Fault("hang", seconds=60))
    stage.wait_until(lambda: len(stage.saw("logs")) > looks, "a look that hangs")

    killed_at = time.time()
    stage.signal(SIGTERM)

    assert_cancelled_once(stage)
    assert stage.saw("cancelExecution")[0].at - killed_at < OPERATORS_BUDGET
    # The interrupted look goes on until its own end; it is for Airflow to wait for that, or not.
    stage.mark("failed")


@pytest.mark.every_airflow
def test_the_retry_of_a_terminated_task_starts_afresh_when_its_execution_was_cancelled(stage: Stage) -> None:
    stage.play("retrying", FOR_EVER)
    stage.wait_until_watched()
    stage.losant.script(stage.notebook_id, Script())

    stage.signal(SIGTERM)

    stage.wait_for_state("success", "failed", try_number=2)
    assert stage.end() == "success"
    assert stage.statuses == ["canceled", "completed"]
    assert stage.result["execution_id"] == stage.executions[1]["id"]
    first = stage.executions[0]
    assert stage.cancelled() == [first["id"]]
    assert stage.saw("cancelExecution")[0].at < stage.saw("execute")[1].at
    assert len(stage.saw("execute")) == 2


@pytest.mark.parametrize(
    "processed",
    [
        pytest.param(True, id="taken", marks=pytest.mark.every_airflow),
        pytest.param(False, id="not yet taken"),
    ],
)
@pytest.mark.parametrize("story", ["waiting", "deferred"])
def test_a_kill_while_the_order_is_in_flight_cancels_the_execution_as_soon_as_it_has_a_name(
    stage: Stage, story: str, processed: bool
) -> None:
    stage.losant.inject("notebook.execute", Fault("slow", seconds=2.5, processed=processed))
    stage.play(story, FOR_EVER)

    stage.signal(SIGTERM)

    assert_cancelled_once(stage)
    assert stage.end() == "failed"


@pytest.mark.parametrize("mark", ["failed", "success"])
def test_marking_a_task_whose_order_is_in_flight_cancels_the_execution(stage: Stage, mark: str) -> None:
    stage.losant.inject("notebook.execute", Fault("slow", seconds=3, processed=True))
    stage.play("waiting", FOR_EVER)

    stage.mark(mark)

    assert_cancelled_once(stage)
    assert stage.end() == mark


def test_a_kill_while_the_answer_to_the_order_is_lost_cancels_what_has_begun(stage: Stage) -> None:
    stage.losant.inject("notebook.execute", Fault("reset_after"))
    stage.losant.inject("notebook.logs", Fault("slow", seconds=2))
    stage.play("waiting", FOR_EVER)
    stage.wait_until(lambda: stage.saw("logs"), "a look for the lost execution")

    stage.signal(SIGTERM)

    assert_cancelled_once(stage)
    assert stage.end() == "failed"


@pytest.mark.parametrize("mark", ["failed", "success"])
@pytest.mark.parametrize(("story", "waiting"), [("keeping", "running"), ("keeping_deferred", "deferred")])
def test_without_cancel_on_kill_a_mark_leaves_the_execution_alone(
    stage: Stage, story: str, waiting: str, mark: str
) -> None:
    stage.play(story, FOR_EVER)
    stage.wait_for_state(waiting)
    stage.wait_until_watched()

    stage.mark(mark)

    assert stage.end() == mark
    settle()
    assert stage.statuses == ["inProgress"]
    assert stage.saw("cancelExecution") == []
    assert len(stage.saw("execute")) == 1


def test_without_cancel_on_kill_the_retry_of_a_terminated_task_takes_the_execution_over(stage: Stage) -> None:
    stage.play("keeping_retrying", Script(notebook=10))
    stage.wait_until_watched()

    stage.signal(SIGTERM)

    stage.wait_for_state("success", "failed", try_number=2)
    assert stage.end() == "success"
    assert stage.result["execution_id"] == stage.executions[0]["id"]
    assert stage.statuses == ["completed"]
    assert stage.saw("cancelExecution") == []
    assert len(stage.saw("execute")) == 1


@pytest.mark.every_airflow
@pytest.mark.parametrize("number", [SIGTERM, SIGKILL], ids=lambda number: str(number.name))
def test_a_triggerer_that_goes_away_cancels_nothing_and_the_wait_goes_on_in_the_next(
    airflow: LocalAirflow, lone_stage: Stage, number: Signals
) -> None:
    stage = lone_stage
    stage.play("deferred", Script(notebook=25))
    stage.wait_for_state("deferred")
    stage.wait_until_watched()

    if number is SIGKILL:
        airflow.triggerer.kill()
    else:
        airflow.triggerer.stop(grace=10)
    settle()
    assert stage.task["state"] == "deferred"
    airflow.triggerer.start()

    assert stage.end() == "success"
    assert stage.result["execution_id"] == stage.executions[0]["id"]
    assert stage.statuses == ["completed"]
    assert stage.saw("cancelExecution") == []
    assert len(stage.saw("execute")) == 1
