# SPDX-License-Identifier: Apache-2.0
"""The account that the chaos command takes: it must be able to complain."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from tests.journeys.chaos.bookkeeping import GRACE, RESULT, Run, Task, settle

KEY = ("dag", "run", 0)
RUN = Run(id="first", task=KEY, try_number=1, queued=10.0, stopped=20.0, is_complete=True, is_answered=True)
TASK = Task(
    key=KEY,
    state="success",
    try_number=1,
    ended=21.0,
    result=dict.fromkeys(RESULT) | {"execution_id": "first"},
)
CANCELLED = replace(RUN, id="cancelled", queued=1.0, stopped=9.0, is_complete=False)


def test_one_execution_for_one_task_is_clean() -> None:
    account = settle([RUN], [TASK])

    assert account.is_clean
    assert (account.tasks, account.executions, account.adopted) == (1, 1, 0)


def test_an_execution_after_a_canceled_one_is_clean() -> None:
    account = settle([CANCELLED, replace(RUN, try_number=2)], [replace(TASK, try_number=2)])

    assert account.is_clean
    assert (account.executions, account.adopted) == (2, 0)


@pytest.mark.parametrize(
    ("run", "task"), [(RUN, replace(TASK, try_number=2)), (replace(RUN, is_answered=False), TASK)]
)
def test_executions_of_another_try_or_a_lost_response_count_as_reconnected(run: Run, task: Task) -> None:
    account = settle([run], [task])

    assert account.is_clean
    assert account.adopted == 1


@pytest.mark.parametrize(
    "second",
    [
        replace(CANCELLED, stopped=10.5),
        replace(CANCELLED, stopped=inf),
        replace(RUN, id="second", queued=30.0, stopped=40.0),
    ],
    ids=["at once for a moment", "at once for ever", "one after the other, both completed"],
)
def test_two_good_executions_are_a_duplicate(second: Run) -> None:
    account = settle([RUN, second], [replace(TASK, ended=50.0)])

    assert len(account.duplicates) == 1
    assert not account.is_clean


@pytest.mark.parametrize(
    "run",
    [
        replace(CANCELLED, queued=30.0, stopped=TASK.ended + GRACE + 1),
        replace(CANCELLED, queued=30.0, stopped=inf),
        replace(CANCELLED, task=None),
        replace(CANCELLED, task=("dag", "another run", 0)),
    ],
    ids=["long after its task", "for ever", "unmarked", "of an unknown task"],
)
def test_an_execution_that_no_task_waits_for_is_an_orphan(run: Run) -> None:
    account = settle([RUN, run], [TASK])

    assert len(account.orphans) == 1
    assert not account.is_clean


@pytest.mark.parametrize(
    "task",
    [
        replace(TASK, state="failed"),
        replace(TASK, state="running", ended=inf),
        replace(TASK, result=None),
        replace(TASK, result={"execution_id": "first"}),
        replace(TASK, result=dict.fromkeys(RESULT) | {"execution_id": "unknown"}),
    ],
    ids=["failed", "never ended", "no result", "half a result", "an unknown execution's"],
)
def test_a_task_without_the_result_of_its_execution_is_lost(task: Task) -> None:
    account = settle([RUN], [task])

    assert len(account.lost) == 1
    assert not account.is_clean


def test_the_result_of_another_tasks_execution_does_not_count() -> None:
    other = replace(TASK, key=("dag", "run", 1))

    assert len(settle([RUN], [TASK, other]).lost) == 1
