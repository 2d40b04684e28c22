# SPDX-License-Identifier: Apache-2.0
"""How a kill, or the failure of the last try, searches the log for what the task has submitted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.api.errors import (
    Forbidden,
    LosantError,
    NotLosantApi,
    RateLimited,
    ServerError,
    TransportError,
)
from airflow_provider_losant.api.flows.reconnect import ExecutionFinder
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

OWNER = owner(try_number=3, max_tries=5)
SUBMISSION = Submission(application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, options={}, owner=OWNER)
POLICY = SubmitPolicy(retries=0, max_log_lag=60.0, max_poll_outage=600.0, back_to=CREATED_AT)
BUDGET = 3.5


def execution_of_try(number: int, status: str, **changed: Any) -> Execution:
    context = replace(OWNER, try_number=number, **changed).add_marker({})
    return execution(status, execution_id_at(number), templateContext=json.dumps(context))


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


@pytest.mark.parametrize(
    "changed", [{"max_tries": 4}, {"dag_run_start": "2025-12-31T00:00:00+00:00"}], ids=str
)
def test_a_kill_also_finds_what_is_left_from_before_a_clear_and_continues_to_search_for_its_own(
    changed: dict[str, Any],
) -> None:
    left, submitted = execution_of_try(2, "inProgress", **changed), execution_of_try(3, "queued")

    assert find_active(FlowDriver([[left], [submitted, left]])) == [submitted.ref, left.ref]
    assert find_active(FlowDriver([[left]])) == [left.ref]


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


@pytest.mark.parametrize(
    "changed",
    [{"map_index": 1}, {"task_id": "other"}, {"dag_run_start": "2026-12-31T00:00:00+00:00"}],
    ids=str,
)
def test_a_kill_does_not_find_executions_of_another_task_or_a_later_owner(changed: dict[str, Any]) -> None:
    own, other = execution_of_try(3, "canceled"), execution_of_try(2, "inProgress", **changed)

    assert find_active(FlowDriver([[own, other]])) == []
    assert find_active(FlowDriver([[other]])) == []


def test_a_kill_finds_every_active_execution_of_the_task_that_is_listed() -> None:
    twins = [execution_of_try(number, "inProgress") for number in (3, 2)]

    assert find_active(FlowDriver([twins])) == [it.ref for it in twins]


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
