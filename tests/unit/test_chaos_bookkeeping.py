# SPDX-License-Identifier: Apache-2.0
"""The chaos command finds duplicates, orphans and lost tasks."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from tests.journeys.chaos.bookkeeping import GRACE, RESULT_KEYS, Execution, Task, compare

KEY = ("dag", "run", 0)
EXECUTION = Execution(
    id="first", task=KEY, try_number=1, queued=10.0, stopped=20.0, is_complete=True, is_answered=True
)
TASK = Task(
    key=KEY,
    state="success",
    try_number=1,
    ended=21.0,
    result=dict.fromkeys(RESULT_KEYS) | {"execution_id": "first"},
)
CANCELLED = replace(EXECUTION, id="cancelled", queued=1.0, stopped=9.0, is_complete=False)


def test_one_execution_for_one_task_is_clean() -> None:
    findings = compare([EXECUTION], [TASK])

    assert findings.is_clean
    assert (findings.tasks, findings.executions, findings.reconnected) == (1, 1, 0)


def test_an_execution_after_a_canceled_one_is_clean() -> None:
    findings = compare([CANCELLED, replace(EXECUTION, try_number=2)], [replace(TASK, try_number=2)])

    assert findings.is_clean
    assert (findings.executions, findings.reconnected) == (2, 0)


@pytest.mark.parametrize(
    ("run", "task"), [(EXECUTION, replace(TASK, try_number=2)), (replace(EXECUTION, is_answered=False), TASK)]
)
def test_executions_of_another_try_or_a_lost_response_count_as_reconnected(
    run: Execution, task: Task
) -> None:
    findings = compare([run], [task])

    assert findings.is_clean
    assert findings.reconnected == 1


@pytest.mark.parametrize(
    "second",
    [
        replace(CANCELLED, stopped=10.5),
        replace(CANCELLED, stopped=inf),
        replace(EXECUTION, id="second", queued=30.0, stopped=40.0),
    ],
    ids=["at once for a moment", "at once for ever", "one after the other, both completed"],
)
def test_two_good_executions_are_a_duplicate(second: Execution) -> None:
    findings = compare([EXECUTION, second], [replace(TASK, ended=50.0)])

    assert len(findings.duplicates) == 1
    assert not findings.is_clean


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
def test_an_execution_that_no_task_waits_for_is_an_orphan(run: Execution) -> None:
    findings = compare([EXECUTION, run], [TASK])

    assert len(findings.orphans) == 1
    assert not findings.is_clean


@pytest.mark.parametrize(
    "task",
    [
        replace(TASK, state="failed"),
        replace(TASK, state="running", ended=inf),
        replace(TASK, result=None),
        replace(TASK, result={"execution_id": "first"}),
        replace(TASK, result=dict.fromkeys(RESULT_KEYS) | {"execution_id": "unknown"}),
    ],
    ids=["failed", "never ended", "no result", "half a result", "an unknown execution's"],
)
def test_a_task_without_the_result_of_its_execution_is_lost(task: Task) -> None:
    findings = compare([EXECUTION], [task])

    assert len(findings.lost) == 1
    assert not findings.is_clean


def test_the_result_of_another_tasks_execution_does_not_count() -> None:
    other = replace(TASK, key=("dag", "run", 1))

    assert len(compare([EXECUTION], [TASK, other]).lost) == 1
