# SPDX-License-Identifier: Apache-2.0
"""How a try searches the log for executions of earlier tries."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.api.errors import (
    Forbidden,
    LosantError,
    NotFound,
    NotLosantApi,
    RateLimited,
    ServerError,
    TransportError,
)
from airflow_provider_losant.api.flows.ownership import read_marker
from airflow_provider_losant.api.flows.reconnect import ExecutionFinder, SubmissionUnknown
from airflow_provider_losant.api.flows.submission import Submission, SubmitPolicy
from tests.support.factories import (
    APPLICATION_ID,
    CREATED_AT,
    NOTEBOOK_ID,
    execution,
    execution_id_at,
    owner,
)
from tests.unit.api.flow_driver import FlowDriver, maximum

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.ownership import Owner
    from airflow_provider_losant.api.model import Execution

MAX_LOG_LAG, MAX_POLL_OUTAGE = 60.0, 600.0
OWNER = owner(try_number=3, max_tries=5)
SUBMISSION = Submission(application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, options={}, owner=OWNER)
POLICY = SubmitPolicy(retries=0, max_log_lag=MAX_LOG_LAG, max_poll_outage=MAX_POLL_OUTAGE, back_to=CREATED_AT)


def execution_of(whose: Owner, seconds: int, status: str) -> Execution:
    """Return an entry of the log that was created so many seconds after the first one."""
    return execution(status, execution_id_at(seconds), templateContext=json.dumps(whose.add_marker({})))


def execution_of_try(number: int, status: str) -> Execution:
    return execution_of(replace(OWNER, try_number=number), number, status)


def find_earlier(driver: FlowDriver, submission: Submission, **policy: Any) -> Execution | None:
    finder = ExecutionFinder(
        submission=submission, policy=replace(POLICY, **policy), clock=driver.clock, jitter=maximum
    )
    return driver.drive(finder.find_earlier())


def cancelled(driver: FlowDriver) -> list[str]:
    return [
        call.query["executionId"] for call in driver.calls if call.operation == "notebook.cancelExecution"
    ]


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


def test_a_result_is_found_as_long_after_its_execution_as_the_dag_run_is_old() -> None:
    """The worker died on Friday evening, and Airflow retries on Monday."""
    completed = execution_of_try(2, "completed")
    others = [execution("completed", execution_id_at(60 * number)) for number in range(1, 64 * 60)]
    driver = FlowDriver([lambda call: [*reversed(others), completed][: int(call.query["limit"])]])
    driver.now = CREATED_AT + 63 * 3_600

    assert find_earlier(driver, SUBMISSION) == completed


RECREATED = replace(OWNER, try_number=2, dag_run_start="2026-01-02T00:00:00+00:00")


@pytest.mark.parametrize("status", ["completed", "errored", "canceled"])
def test_the_first_try_of_a_deleted_dag_run_does_not_stand_for_that_of_the_new_one(status: str) -> None:
    deleted = execution_of(replace(RECREATED, try_number=1, dag_run_start=OWNER.dag_run_start), 1, status)
    submitted = execution_of(replace(RECREATED, try_number=1), 9, "inProgress")
    driver = FlowDriver([[deleted], [deleted], [submitted, deleted]])

    assert find_earlier(driver, replace(SUBMISSION, owner=RECREATED)) == submitted


def test_an_active_execution_of_a_deleted_dag_run_is_cancelled_and_not_returned() -> None:
    deleted = execution_of(replace(RECREATED, try_number=1, dag_run_start=OWNER.dag_run_start), 1, "queued")
    own = execution_of(replace(RECREATED, try_number=1), 9, "inProgress")
    driver = FlowDriver([[own, deleted], None])

    assert find_earlier(driver, replace(SUBMISSION, owner=RECREATED)) == own
    assert cancelled(driver) == [deleted.ref.execution_id]


def test_a_task_that_is_cleared_with_fewer_retries_after_its_dag_run_has_ended_runs_again() -> None:
    """Success at try 1 of 4, then a clear with two retries: Airflow's max_tries is 3 as before."""
    success = owner(try_number=1, max_tries=3)
    cleared = replace(success, try_number=2, dag_run_start="2026-01-02T00:00:00+00:00")
    driver = FlowDriver([[execution_of(success, 1, "completed")]])

    assert find_earlier(driver, replace(SUBMISSION, owner=cleared)) is None


def test_a_clear_after_the_dag_run_has_ended_submits_at_once() -> None:
    cleared = replace(OWNER, try_number=3, max_tries=9, dag_run_start="2026-01-02T00:00:00+00:00")
    driver = FlowDriver([[execution_of_try(2, "completed")]])

    assert find_earlier(driver, replace(SUBMISSION, owner=cleared)) is None
    assert driver.sleeps == []


@pytest.mark.parametrize("deployment", ["https://new.example", ""])
def test_a_retry_reconnects_although_the_url_of_airflow_was_changed(deployment: str) -> None:
    running = execution_of_try(2, "inProgress")

    found = find_earlier(
        FlowDriver([[running]]), replace(SUBMISSION, owner=replace(OWNER, deployment=deployment))
    )

    assert found == running


def test_executions_of_other_owners_are_neither_returned_nor_cancelled() -> None:
    changes: tuple[dict[str, Any], ...] = (
        {"map_index": 1},
        {"run_id": "other"},
        {"dag_run_start": "2026-01-02T00:00:00+00:00"},
        {"max_tries": 6, "try_number": 4},
        {"deployment": "https://staging.example", "dag_run_start": "2025-12-31T00:00:00+00:00"},
    )
    others = [
        execution_of(replace(OWNER, **{"try_number": 2, **changed}), number, "inProgress")
        for number, changed in enumerate(changes)
    ]
    listed = [*others, execution_of_try(2, "errored")]
    driver = FlowDriver([listed])

    assert find_earlier(driver, SUBMISSION) is None
    assert cancelled(driver) == []


# -- after a clear ----------------------------------------------------------------------------------------

CLEARED = replace(SUBMISSION, owner=replace(OWNER, max_tries=9))


def test_a_cleared_task_cancels_its_earlier_execution_and_submits_a_new_one() -> None:
    earlier = execution_of_try(2, "inProgress")
    driver = FlowDriver([[earlier], None])

    assert find_earlier(driver, CLEARED) is None
    assert cancelled(driver) == [earlier.ref.execution_id]


def test_a_cleared_task_leaves_its_earlier_execution_without_cancel_on_kill() -> None:
    driver = FlowDriver([[execution_of_try(2, "inProgress")]])

    assert find_earlier(driver, CLEARED, cancel_stale=False) is None
    assert cancelled(driver) == []


@pytest.mark.parametrize("status", ["inProgress", "completed"])
def test_a_cleared_task_may_be_told_to_reconnect_to_its_earlier_execution(status: str) -> None:
    earlier = execution_of_try(2, status)
    driver = FlowDriver([[earlier]])

    assert find_earlier(driver, CLEARED, reconnect_after_clear=True) == earlier
    assert cancelled(driver) == []
    assert "before the clear" in driver.log


def test_a_cleared_task_that_is_told_to_reconnect_submits_after_a_failed_execution() -> None:
    driver = FlowDriver([[execution_of_try(2, "errored"), execution_of_try(1, "completed")]])

    assert find_earlier(driver, CLEARED, reconnect_after_clear=True) is None
    assert driver.sleeps == []


def test_a_task_that_is_told_to_reconnect_after_a_clear_prefers_its_own_execution() -> None:
    own = execution_of(replace(OWNER, max_tries=9, try_number=2), 5, "inProgress")
    driver = FlowDriver([[own, execution_of_try(1, "inProgress")], None])
    retry = replace(SUBMISSION, owner=replace(OWNER, max_tries=9))

    assert find_earlier(driver, retry, reconnect_after_clear=True) == own
    assert cancelled(driver) == [execution_of_try(1, "").ref.execution_id]


# -- a lost response --------------------------------------------------------------------------------------


@pytest.mark.parametrize("skew", [-600.0, 600.0])
def test_a_lost_submission_is_searched_for_without_using_the_local_clock(skew: float) -> None:
    submitted = execution_of_try(3, "inProgress")

    def log(call: Any) -> list[Execution]:
        is_listed = float(call.query.get("since", 0)) / 1000 <= driver.now + skew
        return [submitted] if is_listed else []

    driver = FlowDriver([log])

    assert find_lost(driver) == submitted
    assert driver.sleeps == []


def find_lost(driver: FlowDriver, failure: LosantError | None = None) -> Execution | None:
    finder = ExecutionFinder(submission=SUBMISSION, policy=POLICY, clock=driver.clock, jitter=maximum)
    found: Execution | None = driver.drive(finder.find_lost(failure or TransportError("lost")))
    return found


def test_the_search_for_a_lost_submission_respects_retry_after() -> None:
    driver = FlowDriver(
        [RateLimited(429, "", "slow down", retry_after=40.0), [execution_of_try(3, "queued")]]
    )

    find_lost(driver)

    assert driver.sleeps == [40.0]


@pytest.mark.parametrize("search", ["find_lost", "find_earlier"])
def test_the_time_of_retry_after_is_no_outage_for_a_failure_after_it(search: str) -> None:
    slow_down = RateLimited(429, "", "slow down", retry_after=900.0)
    busy = ServerError(503, "", "busy")
    listed = [execution_of_try(2, "inProgress"), execution_of_try(3, "queued")]
    driver = FlowDriver([slow_down, busy, listed])

    found = find_lost(driver) if search == "find_lost" else find_earlier(driver, SUBMISSION)

    assert found in listed
    assert 900 < sum(driver.sleeps) < 960


PAGE = NotLosantApi("a page", may_have_taken_effect=True)


def test_pages_of_a_gateway_do_not_end_the_search_for_a_lost_submission() -> None:
    submitted = execution_of_try(3, "queued")

    assert find_lost(FlowDriver([*[PAGE] * 20, [submitted]]), ServerError(504, "", "timeout")) == submitted
    assert find_lost(FlowDriver([*[PAGE] * 3, [submitted]]), PAGE) == submitted


@pytest.mark.parametrize(
    ("failure", "responses", "longest"),
    [
        (PAGE, [PAGE], MAX_LOG_LAG),
        (ServerError(504, "", "timeout"), [PAGE], MAX_POLL_OUTAGE),
        (PAGE, [[], PAGE], MAX_POLL_OUTAGE),
        (PAGE, [ServerError(503, "", "busy"), PAGE], MAX_POLL_OUTAGE),
    ],
    ids=["only pages", "no page at first", "a log before the pages", "another error before the pages"],
)
def test_a_host_that_has_sent_nothing_but_pages_is_given_up_sooner(
    failure: LosantError, responses: list[Any], longest: float
) -> None:
    driver = FlowDriver([*responses, *[PAGE] * 100])

    with pytest.raises(SubmissionUnknown):
        find_lost(driver, failure)
    assert longest < sum(driver.sleeps) <= longest + 30


def test_a_context_nested_too_deeply_to_parse_has_no_owner() -> None:
    hostile = execution("inProgress", execution_id_at(9), templateContext="[" * 32_767)

    assert read_marker(hostile) is None
    assert find_earlier(FlowDriver([[hostile, execution_of_try(2, "errored")]]), SUBMISSION) is None


def test_without_a_marker_only_the_saved_execution_id_is_searched() -> None:
    driver = FlowDriver([[execution("errored", execution_id_at(1))]])

    assert find_earlier(driver, replace(SUBMISSION, owner=None, known_id=execution_id_at(1))) is None
    assert driver.sleeps == []
