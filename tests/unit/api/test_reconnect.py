# SPDX-License-Identifier: Apache-2.0
"""How a try searches the log for executions of earlier tries."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.api.errors import Forbidden, LosantError, NotFound, RateLimited
from airflow_provider_losant.api.flows.ownership import Owner, read_marker
from airflow_provider_losant.api.flows.reconnect import ExecutionFinder, SubmissionUnknown
from airflow_provider_losant.api.flows.submission import Submission, SubmitPolicy
from tests.support.factories import APPLICATION_ID, NOTEBOOK_ID, execution, execution_id_at
from tests.unit.api.flow_driver import FlowDriver, maximum

if TYPE_CHECKING:
    from airflow_provider_losant.api.model import Execution

MAX_LOG_LAG = 60.0
OWNER = Owner(
    dag_id="dag", task_id="task", run_id="run", map_index=-1, try_number=3, max_tries=5, deployment="here"
)
SUBMISSION = Submission(application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, options={}, owner=OWNER)
POLICY = SubmitPolicy(retries=0, max_log_lag=MAX_LOG_LAG, max_poll_outage=600.0, lookback=86_400.0)


def execution_of_try(number: int, status: str, **more: Any) -> Execution:
    context = json.dumps(replace(OWNER, try_number=number).add_marker({}))
    return execution(status, execution_id_at(number), templateContext=context, **more)


def find_earlier(driver: FlowDriver, submission: Submission) -> Execution | None:
    return driver.drive(
        ExecutionFinder(
            submission=submission, policy=POLICY, clock=driver.clock, jitter=maximum
        ).find_earlier()
    )


@pytest.mark.parametrize("known_id", [None, execution_id_at(1)], ids=["unknown", "saved by the first try"])
def test_an_execution_of_the_first_try_does_not_stop_the_search_for_the_second(known_id: str | None) -> None:
    first, second = execution_of_try(1, "canceled"), execution_of_try(2, "inProgress")
    driver = FlowDriver([[first], [second, first]])

    assert find_earlier(driver, replace(SUBMISSION, known_id=known_id)) == second


def test_a_try_submits_at_once_if_the_previous_execution_is_known_to_have_ended() -> None:
    driver = FlowDriver([[execution_of_try(2, "errored"), execution_of_try(1, "canceled")]])

    assert find_earlier(driver, SUBMISSION) is None
    assert driver.sleeps == []


def test_a_missing_previous_execution_is_searched_for_max_log_lag() -> None:
    driver = FlowDriver([[execution_of_try(1, "canceled")]])

    assert find_earlier(driver, replace(SUBMISSION, known_id=execution_id_at(1))) is None
    assert sum(driver.sleeps) >= MAX_LOG_LAG


@pytest.mark.parametrize(
    "error", [Forbidden(403, "Forbidden", "no access"), NotFound(404, "NotFound", "Notebook was not found")]
)
def test_a_retry_that_may_not_read_the_log_does_not_rule_out_an_execution(error: LosantError) -> None:
    with pytest.raises(SubmissionUnknown, match="is unknown, a retry searches again") as caught:
        find_earlier(FlowDriver([error]), SUBMISSION)

    assert caught.value.is_transient


@pytest.mark.parametrize("skew", [-600.0, 600.0])
def test_a_lost_submission_is_searched_for_without_using_the_local_clock(skew: float) -> None:
    submitted = execution_of_try(3, "inProgress")

    def log(call: Any) -> list[Execution]:
        is_listed = float(call.query["since"]) / 1000 <= driver.now + skew
        return [submitted] if is_listed else []

    driver = FlowDriver([log])

    flow = ExecutionFinder(
        submission=SUBMISSION, policy=POLICY, clock=driver.clock, jitter=maximum
    ).find_lost()
    assert driver.drive(flow) == submitted
    assert driver.sleeps == []


def test_the_search_for_a_lost_submission_respects_retry_after() -> None:
    driver = FlowDriver(
        [RateLimited(429, "", "slow down", retry_after=40.0), [execution_of_try(3, "queued")]]
    )

    driver.drive(
        ExecutionFinder(submission=SUBMISSION, policy=POLICY, clock=driver.clock, jitter=maximum).find_lost()
    )

    assert driver.sleeps == [40.0]


def test_a_context_nested_too_deeply_to_parse_has_no_owner() -> None:
    hostile = execution("inProgress", execution_id_at(9), templateContext="[" * 32_767)

    assert read_marker(hostile) == {}
    assert find_earlier(FlowDriver([[hostile, execution_of_try(2, "errored")]]), SUBMISSION) is None


def test_without_a_marker_only_the_saved_execution_id_is_searched() -> None:
    driver = FlowDriver([[execution("errored", execution_id_at(1))]])

    assert find_earlier(driver, replace(SUBMISSION, owner=None, known_id=execution_id_at(1))) is None
    assert driver.sleeps == []
