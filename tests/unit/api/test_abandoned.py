# SPDX-License-Identifier: Apache-2.0
"""The decision which executions no task waits for, which is made in one place for all that cancel."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.api.flows.abandoned import (
    STANDSTILL_MEMORY,
    Standstill,
    is_last_try,
    split_by_retry,
    why_abandoned,
)
from airflow_provider_losant.api.flows.submission import Submission
from tests.support.factories import (
    APPLICATION_ID,
    NOTEBOOK_ID,
    execution,
    execution_id_at,
    owner,
)

if TYPE_CHECKING:
    from airflow_provider_losant.api.flows.ownership import Owner
    from airflow_provider_losant.api.model import Execution

FIRST, SECOND, THIRD = (execution_id_at(number) for number in range(1, 4))
OWNER = owner(try_number=4, max_tries=6)
BEFORE_CLEAR = replace(OWNER, try_number=1, max_tries=3)
CREATED_AGAIN = "2026-01-02T00:00:00+00:00"


# -- the state of the task ----------------------------------------------------------------------------------


@pytest.mark.parametrize("awaited_id", [None, FIRST, SECOND], ids=["unknown", "this one", "another one"])
@pytest.mark.parametrize("state", ["success", "failed", "skipped", "upstream_failed", "removed", None])
def test_an_execution_is_abandoned_when_its_task_has_ended(state: str | None, awaited_id: str | None) -> None:
    assert why_abandoned(state, FIRST, awaited_id) == f"its task is {state or 'cleared or deleted'}"


@pytest.mark.parametrize(
    "state",
    [
        "running",
        "deferred",
        "queued",
        "scheduled",
        "up_for_retry",
        "up_for_reschedule",
        "restarting",
        "later",
    ],
)
def test_an_execution_is_not_abandoned_while_airflow_runs_its_task_or_will(state: str) -> None:
    assert why_abandoned(state, FIRST) is None
    assert why_abandoned(state, FIRST, FIRST) is None


@pytest.mark.parametrize("state", ["running", "deferred"])
def test_of_two_executions_of_a_task_the_one_that_it_does_not_wait_for_is_abandoned(state: str) -> None:
    assert why_abandoned(state, FIRST, SECOND) == f"its task waits for execution {SECOND}"
    assert why_abandoned(state, SECOND, SECOND) is None


@pytest.mark.parametrize(
    ("try_number", "max_tries", "is_last"),
    [(1, 0, True), (1, 1, False), (2, 1, True), (3, 3, False), (4, 3, True), (5, 3, True)],
)
def test_the_last_try_is_the_one_that_airflow_does_not_retry(
    try_number: int, max_tries: int, *, is_last: bool
) -> None:
    assert is_last_try(try_number, max_tries) is is_last


# -- the executions that a retry finds ----------------------------------------------------------------------


def execution_of(whose: Owner, status: str, execution_id: str) -> Execution:
    return execution(status, execution_id, templateContext=json.dumps(whose.add_marker({})))


def split(
    *listed: Execution, reconnect_after_clear: bool = False, whose: Owner = OWNER, known_id: str | None = None
) -> tuple[str | None, list[str]]:
    """Return the id of the chosen execution, and those of the abandoned ones that are active."""
    submission = Submission(
        application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, options={}, owner=whose, known_id=known_id
    )
    chosen, abandoned = split_by_retry(submission, listed, reconnect_after_clear=reconnect_after_clear)
    assert all(why for _, why in abandoned)
    active = [it.ref.execution_id for it, _ in abandoned if it.status.is_active]
    return chosen.ref.execution_id if chosen else None, active


@pytest.mark.parametrize("status", ["queued", "inProgress", "completed", "a later word"])
def test_a_retry_reconnects_to_what_is_active_or_completed(status: str) -> None:
    assert split(execution_of(OWNER, status, FIRST)) == (FIRST, [])


@pytest.mark.parametrize("status", ["errored", "timeout", "canceled", "canceling"])
def test_a_retry_does_not_reconnect_to_what_has_failed(status: str) -> None:
    assert split(execution_of(OWNER, status, FIRST)) == (None, [])


def test_of_several_active_executions_the_oldest_is_kept() -> None:
    listed = [execution_of(OWNER, "inProgress", it) for it in (THIRD, FIRST, SECOND)]

    assert split(*listed) == (FIRST, [SECOND, THIRD])


def test_a_completed_execution_is_preferred_and_the_active_one_abandoned() -> None:
    active, completed = execution_of(OWNER, "queued", FIRST), execution_of(OWNER, "completed", SECOND)

    assert split(active, completed) == (SECOND, [FIRST])
    assert split(completed, active) == (SECOND, [FIRST])


def test_of_two_completed_executions_the_older_one_gives_the_result() -> None:
    assert split(*(execution_of(OWNER, "completed", it) for it in (SECOND, FIRST))) == (FIRST, [])


def test_a_saved_execution_id_is_reconnected_to_without_a_marker() -> None:
    assert split(execution("inProgress", FIRST), known_id=FIRST) == (FIRST, [])
    assert split(execution("inProgress", FIRST), known_id=SECOND) == (None, [])


@pytest.mark.parametrize(
    "changed",
    [{"task_id": "another"}, {"run_id": "another"}, {"map_index": 5}, {"dag_id": "another"}],
    ids=str,
)
def test_executions_of_others_are_neither_chosen_nor_abandoned(changed: dict[str, Any]) -> None:
    others = [
        execution_of(replace(OWNER, **changed), "inProgress", FIRST),
        execution_of(replace(BEFORE_CLEAR, **changed), "inProgress", SECOND),
        execution("inProgress", THIRD),
    ]

    assert split(*others) == (None, [])
    assert split(*others, reconnect_after_clear=True) == (None, [])


def test_executions_from_before_a_clear_are_abandoned() -> None:
    older = execution_of(BEFORE_CLEAR, "inProgress", FIRST)

    assert split(older) == (None, [FIRST])
    assert split(execution_of(OWNER, "completed", SECOND), older) == (SECOND, [FIRST])


def test_executions_of_a_later_clear_are_left_to_it() -> None:
    """An older process stood still while the task was cleared, or goes on although it was killed."""
    later = execution_of(replace(OWNER, try_number=5, max_tries=8), "inProgress", FIRST)

    assert split(later) == (None, [])
    assert split(later, reconnect_after_clear=True) == (None, [])


# -- reconnect_after_clear ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["queued", "inProgress", "completed"])
def test_a_cleared_task_may_reconnect_to_the_execution_from_before_the_clear(status: str) -> None:
    older = execution_of(BEFORE_CLEAR, status, FIRST)

    assert split(older, reconnect_after_clear=True) == (FIRST, [])
    chosen, abandoned = split(older)
    assert chosen is None
    assert abandoned == ([] if status == "completed" else [FIRST])


@pytest.mark.parametrize("status", ["errored", "timeout", "canceled", "canceling"])
def test_the_latest_execution_from_before_a_clear_counts_also_if_it_has_failed(status: str) -> None:
    """A user who clears after a failure wants a new execution, not the result of an earlier one."""
    completed = execution_of(BEFORE_CLEAR, "completed", FIRST)
    failed = execution_of(replace(BEFORE_CLEAR, try_number=2), status, SECOND)

    assert split(failed, completed, reconnect_after_clear=True) == (None, [])


def test_only_the_latest_execution_from_before_a_clear_is_kept() -> None:
    listed = [
        execution_of(replace(BEFORE_CLEAR, try_number=number), "inProgress", name)
        for number, name in ((1, FIRST), (2, SECOND))
    ]

    assert split(*listed, reconnect_after_clear=True) == (SECOND, [FIRST])


@pytest.mark.parametrize("status", ["inProgress", "completed", "errored", "canceled"])
def test_an_execution_of_its_own_comes_before_one_from_before_the_clear(status: str) -> None:
    own, older = execution_of(OWNER, status, SECOND), execution_of(BEFORE_CLEAR, "inProgress", FIRST)
    expected = SECOND if status in {"inProgress", "completed"} else None

    assert split(own, older, reconnect_after_clear=True) == (expected, [FIRST])


def test_after_several_clears_the_latest_execution_of_all_counts() -> None:
    """Each clear raises max_tries; the second one came after a reduced number of retries."""
    cleared = replace(OWNER, try_number=2, max_tries=5)
    listed = [
        execution_of(BEFORE_CLEAR, "completed", FIRST),
        execution_of(cleared, "inProgress", SECOND),
    ]

    whose = replace(OWNER, try_number=3, max_tries=4)
    assert split(*listed, reconnect_after_clear=True, whose=whose) == (SECOND, [])
    assert split(*listed, whose=whose) == (None, [SECOND])


def test_after_a_clear_of_an_ended_dag_run_it_reconnects_only_if_the_deployment_is_known() -> None:
    older = execution_of(BEFORE_CLEAR, "completed", FIRST)
    cleared = replace(OWNER, dag_run_start=CREATED_AGAIN)

    assert split(older, whose=cleared, reconnect_after_clear=True) == (FIRST, [])
    unknown = execution_of(replace(BEFORE_CLEAR, deployment=""), "completed", FIRST)
    assert split(unknown, whose=replace(cleared, deployment=""), reconnect_after_clear=True) == (None, [])


@pytest.mark.parametrize("status", ["inProgress", "completed"])
def test_it_never_reconnects_to_an_execution_of_a_deleted_dag_run(status: str) -> None:
    """Also not in a retry, while the log does not show the execution of the try before."""
    deleted = execution_of(BEFORE_CLEAR, status, FIRST)
    again = replace(BEFORE_CLEAR, try_number=2, dag_run_start=CREATED_AGAIN)

    chosen, abandoned = split(deleted, whose=again, reconnect_after_clear=True)

    assert chosen is None
    assert abandoned == ([FIRST] if status == "inProgress" else [])


# -- a process that stood still -----------------------------------------------------------------------------

LONGEST = 150.0


class Time:
    """The wall clock."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def standstill_after(*gaps: float) -> tuple[Standstill, Time]:
    """Return what a process knows that was running only before, between and after these gaps."""
    clock = Time()
    standstill = Standstill(LONGEST, clock)
    for gap in gaps:
        clock.now += gap
        standstill.note_progress()
    return standstill, clock


@pytest.mark.parametrize("gaps", [(), (LONGEST,), (LONGEST - 1,) * 20, (0.0, 1.0)], ids=str)
def test_a_process_that_runs_has_not_stood_still(gaps: tuple[float, ...]) -> None:
    standstill, _ = standstill_after(*gaps)

    assert not standstill.is_recent
    assert standstill.seconds == 0


@pytest.mark.parametrize("gap", [LONGEST + 0.001, 3_600.0])
def test_a_gap_of_more_than_half_the_heartbeat_timeout_is_a_standstill(gap: float) -> None:
    standstill, _ = standstill_after(1.0, gap)

    assert standstill.is_recent
    assert standstill.seconds == pytest.approx(gap, abs=1e-4)


def test_a_standstill_is_noticed_by_the_kill_itself() -> None:
    """A process that wakes up gets the signal before it takes another step."""
    standstill, clock = standstill_after(1.0)
    clock.now += LONGEST + 1

    assert standstill.is_recent


@pytest.mark.parametrize(
    ("seconds", "is_recent"), [(STANDSTILL_MEMORY - 1, True), (STANDSTILL_MEMORY, False), (10_000, False)]
)
def test_a_standstill_counts_for_as_long_as_airflow_may_still_stop_the_process(
    seconds: float, *, is_recent: bool
) -> None:
    standstill, clock = standstill_after(LONGEST + 1)
    for _ in range(int(seconds)):
        clock.now += 1
        standstill.note_progress()

    assert standstill.is_recent is is_recent


def test_a_clock_that_is_set_back_is_no_standstill() -> None:
    standstill, clock = standstill_after(1.0)
    clock.now -= 3_600
    assert not standstill.is_recent
    clock.now += LONGEST
    assert not standstill.is_recent


def test_a_clock_that_is_set_back_does_not_make_a_standstill_count_for_longer() -> None:
    standstill, clock = standstill_after(LONGEST + 1)
    clock.now -= 3_600
    assert standstill.is_recent

    for _ in range(int(STANDSTILL_MEMORY)):
        clock.now += 1
        standstill.note_progress()
    assert not standstill.is_recent


def test_a_process_without_a_limit_never_stands_still() -> None:
    clock = Time()
    standstill = Standstill(inf, clock)
    clock.now += 1e9

    assert not standstill.is_recent


@pytest.mark.parametrize(
    ("heartbeat_timeout", "request_timeout", "longest"),
    [(300, 30, 150), (300, 100, 200), (300, 1_000, 270), (40, 30, 36), (40, 5, 20)],
)
def test_a_standstill_is_noticed_before_airflow_misses_the_heartbeat_and_a_slow_request_is_none(
    heartbeat_timeout: float, request_timeout: float, longest: float
) -> None:
    now = [0.0]
    standstill = Standstill.before(heartbeat_timeout, request_timeout, lambda: now[0])

    now[0] += longest
    assert not standstill.is_recent
    now[0] += longest + 0.1
    assert standstill.is_recent
