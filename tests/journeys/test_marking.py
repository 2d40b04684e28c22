# SPDX-License-Identifier: Apache-2.0
"""Users mark and clear tasks whose notebook is running, and Losant cancels the executions."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from tests.journeys.test_killing import assert_cancelled_once
from tests.support.journey import ENDLESS, SHORT, Journey, wait_for_late_requests

pytestmark = pytest.mark.every_airflow

BOTH_MODES = pytest.mark.parametrize(
    ("variant", "waiting"), [("waiting", "running"), ("deferred", "deferred")], ids=["waiting", "deferred"]
)


@pytest.mark.parametrize("mark", ["failed", "success"])
@BOTH_MODES
def test_marking_a_waiting_task_cancels_its_execution_once(
    journey: Journey, variant: str, waiting: str, mark: str
) -> None:
    journey.start(variant, ENDLESS)
    journey.wait_for_state(waiting)
    journey.wait_for_poll()

    journey.mark(mark)

    assert_cancelled_once(journey)
    assert journey.wait_for_end() == mark


@BOTH_MODES
def test_clearing_a_waiting_task_cancels_its_execution_once_and_submits_a_new_one(
    journey: Journey, variant: str, waiting: str
) -> None:
    if waiting == "running" and version("apache-airflow") == "3.4.0b2":
        pytest.skip("the scheduler of 3.4.0b2 ends when a running task is cleared: it violates a unique key")
    journey.start(variant, ENDLESS)
    journey.wait_for_state(waiting)
    journey.wait_for_poll()
    journey.losant.script(journey.notebook_id, SHORT)

    journey.clear()

    journey.wait_until(lambda: journey.requests_to("cancelExecution"), "a cancel")
    if waiting == "running" and version("apache-airflow").startswith("3.0."):
        pytest.skip("Airflow 3.0 never restarts a task that was cleared while running, whatever its operator")
    assert journey.wait_for_end() == "success"
    wait_for_late_requests()
    assert journey.statuses == ["canceled", "completed"]
    old = journey.executions[0]["id"]
    assert journey.cancelled() == [old]
    # The new try cancels the old execution too, and may be faster than the kill of the old try.
    assert {it.query["executionId"] for it in journey.requests_to("cancelExecution")} == {old}
    assert len(journey.requests_to("execute")) == 2
    assert journey.result["execution_id"] == journey.executions[1]["id"]


def test_marking_one_mapped_task_cancels_its_execution_and_no_other(journey: Journey) -> None:
    journey.start("mapped", ENDLESS)
    instances = journey.dag_id, journey.run_id, "run"
    for index in (0, 1):
        journey.airflow.wait_for_task(*instances, lambda it: bool(it["state"] == "deferred"), map_index=index)
    journey.wait_for_poll()
    (east,) = [it["id"] for it in journey.executions if '"east"' in it["templateContext"]]

    journey.airflow.set_task_state(*instances, "failed", map_index=1)

    journey.wait_until(lambda: journey.requests_to("cancelExecution"), "a cancel")
    wait_for_late_requests()
    assert journey.cancelled() == [east]
    assert len(journey.requests_to("cancelExecution")) == 1
    states = {it["map_index"]: it["state"] for it in journey.airflow.task_instances(*instances[:2])}
    assert states == {0: "deferred", 1: "failed"}
    assert len(journey.requests_to("execute")) == 2
