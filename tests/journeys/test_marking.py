# SPDX-License-Identifier: Apache-2.0
"""What people do to a task in Airflow's web pages while its notebook runs, and what Losant sees of it."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from tests.journeys.test_killing import assert_cancelled_once
from tests.support.journey import FOR_EVER, SHORT, Stage, settle

pytestmark = pytest.mark.every_airflow

WAYS_TO_WAIT = pytest.mark.parametrize(
    ("story", "waiting"), [("waiting", "running"), ("deferred", "deferred")], ids=["waiting", "deferred"]
)


@pytest.mark.parametrize("mark", ["failed", "success"])
@WAYS_TO_WAIT
def test_marking_a_waiting_task_cancels_its_execution_once(
    stage: Stage, story: str, waiting: str, mark: str
) -> None:
    stage.play(story, FOR_EVER)
    stage.wait_for_state(waiting)
    stage.wait_until_watched()

    stage.mark(mark)

    assert_cancelled_once(stage)
    assert stage.end() == mark


@WAYS_TO_WAIT
def test_clearing_a_waiting_task_cancels_its_execution_once_and_starts_a_fresh_one(
    stage: Stage, story: str, waiting: str
) -> None:
    stage.play(story, FOR_EVER)
    stage.wait_for_state(waiting)
    stage.wait_until_watched()
    stage.losant.script(stage.notebook_id, SHORT)

    stage.clear()

    stage.wait_until(lambda: stage.saw("cancelExecution"), "a cancel")
    if waiting == "running" and version("apache-airflow").startswith("3.0."):
        pytest.skip("Airflow 3.0 never restarts a task that was cleared while running, whatever its operator")
    assert stage.end() == "success"
    settle()
    assert stage.statuses == ["canceled", "completed"]
    old = stage.executions[0]["id"]
    assert stage.cancelled() == [old]
    # The fresh try makes sure that nothing is left of the old one, and may be faster than the kill.
    assert {it.query["executionId"] for it in stage.saw("cancelExecution")} == {old}
    assert len(stage.saw("execute")) == 2
    assert stage.result["execution_id"] == stage.executions[1]["id"]


def test_marking_one_mapped_task_cancels_its_execution_and_no_other(stage: Stage) -> None:
    stage.play("mapped", FOR_EVER)
    instances = stage.dag_id, stage.run_id, "run"
    for index in (0, 1):
        stage.airflow.wait_for_task(*instances, lambda it: bool(it["state"] == "deferred"), map_index=index)
    stage.wait_until_watched()
    (east,) = [it["id"] for it in stage.executions if '"east"' in it["templateContext"]]

    stage.airflow.set_task_state(*instances, "failed", map_index=1)

    stage.wait_until(lambda: stage.saw("cancelExecution"), "a cancel")
    settle()
    assert stage.cancelled() == [east]
    assert len(stage.saw("cancelExecution")) == 1
    states = {it["map_index"]: it["state"] for it in stage.airflow.task_instances(*instances[:2])}
    assert states == {0: "deferred", 1: "failed"}
    assert len(stage.saw("execute")) == 2
