# SPDX-License-Identifier: Apache-2.0
"""With ``if_running``, the executions of a task's own tries do not overlap either."""

from __future__ import annotations

from signal import SIGTERM

import pytest

from airflow_provider_losant.emulator import Fault, Script
from tests.support.journey import ENDLESS, SHORT, Journey

CANCELLATION = 6.0
"""Seconds that an execution stays ``canceling``: longer than until the retry would submit."""
# Not in the Airflow that the workers share: if several running tasks are cleared at the same time, Airflow
# raises the max_tries of one only.
CLEARED_ALONE = pytest.mark.xdist_group("stopped-airflow")


def assert_second_execution_came_after_the_first(journey: Journey) -> None:
    """Check that the task returns its second execution, which did not overlap with the first."""
    assert journey.wait_for_end() == "success"
    assert journey.result["execution_id"] == journey.executions[1]["id"]
    assert len(journey.requests_to("execute")) == len(journey.executions) == 2
    assert journey.most_active_at_once == 1


@pytest.mark.parametrize(
    ("policy", "mode"), [("one_at_a_time", ""), ("replacing", ""), ("replacing", "_deferred")]
)
def test_the_retry_of_a_killed_task_waits_for_the_end_of_its_own_cancelled_execution(
    journey: Journey, policy: str, mode: str
) -> None:
    journey.losant.switches.cancel_delay = CANCELLATION
    if mode:  # the task is killed before it defers
        journey.losant.inject("notebook.execute", Fault("slow", seconds=5, processed=True))
    journey.start(f"{policy}{mode}", ENDLESS)
    journey.wait_until(lambda: journey.executions, "an execution")
    if not mode:
        journey.wait_for_poll()
    journey.losant.script(journey.notebook_id, SHORT)

    journey.signal(SIGTERM)

    journey.wait_for_state("success", "failed", try_number=2)
    assert_second_execution_came_after_the_first(journey)
    assert journey.statuses == ["canceled", "completed"]
    assert journey.cancelled() == [journey.executions[0]["id"]]


@CLEARED_ALONE
@pytest.mark.parametrize("policy", ["one_at_a_time", "replacing"])
def test_a_cleared_task_does_not_run_in_parallel_to_the_execution_that_its_clear_did_not_cancel(
    own_journey: Journey, policy: str
) -> None:
    journey = own_journey
    journey.start(f"{policy}_keeping", ENDLESS)
    journey.wait_for_poll()
    journey.losant.script(journey.notebook_id, Script(notebook=1.0))

    journey.clear()
    if policy == "one_at_a_time":
        journey.wait_for_state("running", try_number=2)
        journey.wait_until(lambda: "waiting for it to end" in journey.log(2), "the cleared task to wait")
        journey.let_it_complete()

    assert_second_execution_came_after_the_first(journey)
    assert journey.statuses == ["completed" if policy == "one_at_a_time" else "canceled", "completed"]
