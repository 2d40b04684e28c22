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
    from airflow_provider_losant.api.model import Execution, ExecutionRef

MAX_LOG_LAG, MAX_POLL_OUTAGE = 60.0, 600.0
OWNER = owner(try_number=3, max_tries=5)
SUBMISSION = Submission(application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, options={}, owner=OWNER)
POLICY = SubmitPolicy(retries=0, max_log_lag=MAX_LOG_LAG, max_poll_outage=MAX_POLL_OUTAGE, back_to=CREATED_AT)


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


# -- the search of a kill ---------------------------------------------------------------------------------

BUDGET = 3.5


def find_active(
    driver: FlowDriver, submission: Submission = SUBMISSION, budget: float = BUDGET
) -> list[ExecutionRef]:
    finder = ExecutionFinder(submission=submission, policy=POLICY, clock=driver.clock, jitter=maximum)
    return list(driver.drive(finder.find_active(budget)))


def test_a_kill_finds_what_the_log_lists_later() -> None:
    submitted = execution_of_try(3, "queued")
    driver = FlowDriver([[], [execution_of_try(2, "errored")], [submitted, execution_of_try(2, "errored")]])

    assert find_active(driver) == [submitted.ref]
    assert driver.sleeps == [0.5, 0.5]


@pytest.mark.parametrize(
    "error",
    [
        ServerError(503, "", "unavailable"),
        NotLosantApi("a page"),
        TransportError("reset"),
        TransportError("no response in time"),
        RateLimited(429, "", "slow down", retry_after=1.0),
    ],
    ids=str,
)
def test_an_error_of_one_search_does_not_end_the_search_of_a_kill(error: LosantError) -> None:
    submitted = execution_of_try(3, "inProgress")
    driver = FlowDriver([error, error, [submitted]])

    assert find_active(driver) == [submitted.ref]
    assert sum(driver.sleeps) <= BUDGET
    assert driver.log_lines == []


@pytest.mark.parametrize("budget", [0.0, BUDGET])
def test_a_kill_searches_at_least_once_and_only_within_its_budget(budget: float) -> None:
    driver = FlowDriver([[]])

    assert find_active(driver, budget=budget) == []
    assert len(driver.calls) == 1 + budget // 0.5
    assert sum(driver.sleeps) <= budget


@pytest.mark.parametrize(
    ("error", "searches"),
    [
        (ServerError(503, "", "unavailable"), 8),
        (Forbidden(403, "", "no scope"), 1),
        (RateLimited(429, "", "slow down", retry_after=60.0), 1),
    ],
    ids=["503", "403", "429 for a minute"],
)
def test_a_kill_that_cannot_read_the_log_says_so_once(error: LosantError, searches: int) -> None:
    driver = FlowDriver([error])

    assert find_active(driver) == []
    assert len(driver.calls) == searches
    assert [line.text for line in driver.log_lines] == [
        f"{error}; whether an execution of {SUBMISSION} is active is unknown"
    ]


@pytest.mark.parametrize("status", ["canceling", "canceled", "completed"])
def test_a_kill_stops_searching_when_the_execution_of_this_try_is_listed(status: str) -> None:
    driver = FlowDriver([[execution_of_try(3, status)]])

    assert find_active(driver) == []
    assert driver.sleeps == []


def test_a_kill_also_finds_an_active_execution_of_an_earlier_try() -> None:
    earlier = execution_of_try(2, "inProgress")

    assert find_active(FlowDriver([[earlier]])) == [earlier.ref]


def test_a_kill_searches_a_long_log_once_and_then_only_its_newest_entries() -> None:
    others = [execution("completed", execution_id_at(number)) for number in range(10, 1_010)]

    def log(call: Any) -> list[Execution]:
        return others[: int(call.query["limit"])]

    driver = FlowDriver([log], now=CREATED_AT + 1_200)

    assert find_active(driver, budget=1.0) == []
    assert [int(call.query["limit"]) for call in driver.calls] == [100, 800, 6_400, 100, 100]


def test_a_kill_reads_no_further_than_the_execution_that_it_finds() -> None:
    submitted = execution_of_try(3, "inProgress")
    others = [execution("completed", execution_id_at(number)) for number in range(10, 109)]
    driver = FlowDriver([[submitted, *others]])

    assert find_active(driver) == [submitted.ref]
    assert len(driver.calls) == 1


def test_without_a_marker_a_kill_has_nothing_to_search_for() -> None:
    driver = FlowDriver([[]])

    assert find_active(driver, replace(SUBMISSION, owner=None)) == []
    assert driver.calls == []


def test_without_a_marker_a_kill_searches_once_for_the_saved_execution() -> None:
    earlier = execution("inProgress", execution_id_at(1))
    submission = replace(SUBMISSION, owner=None, known_id=execution_id_at(1))

    assert find_active(FlowDriver([[earlier]]), submission) == [earlier.ref]
    driver = FlowDriver([[execution("errored", execution_id_at(1))]])
    assert find_active(driver, submission) == []
    assert len(driver.calls) == 1
