# SPDX-License-Identifier: Apache-2.0
"""The chaos command finds duplicates, orphans and lost tasks, and knows which submissions got a response."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf

import pytest

from airflow_provider_losant.emulator import Request
from tests.journeys.chaos.bookkeeping import GRACE, RESULT_KEYS, Execution, Task, compare
from tests.journeys.chaos.executions import answered_markers
from tests.support.network import BalancerRequest, NetworkFault

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
    ("run", "is_orphan"),
    [
        (replace(CANCELLED, stopped=inf), True),
        (replace(CANCELLED, stopped=TASK.ended + GRACE + 1), True),
        (replace(EXECUTION, stopped=TASK.ended + 1), True),
        (replace(CANCELLED, stopped=TASK.ended + 1), False),
        (EXECUTION, False),
    ],
    ids=["for ever", "cancelled late", "completed soon", "cancelled soon", "ended before"],
)
def test_an_execution_that_stays_active_after_its_task_has_failed_is_an_orphan(
    run: Execution, is_orphan: bool
) -> None:
    findings = compare([run], [replace(TASK, state="failed", result=None)])

    assert len(findings.orphans) == is_orphan
    assert len(findings.lost) == 1


ONE_TRY = replace(TASK, state="failed", result=None, has_one_try=True)


def test_a_task_with_one_try_may_fail_if_it_leaves_nothing_behind() -> None:
    findings = compare([replace(CANCELLED, stopped=TASK.ended + 1)], [ONE_TRY])

    assert findings.is_clean
    assert (findings.failed, findings.left_to_sweep) == (1, 0)


@pytest.mark.parametrize(
    ("run", "task"),
    [
        (CANCELLED, replace(ONE_TRY, was_killed=True)),
        (replace(CANCELLED, is_cancel_requested=True), ONE_TRY),
        (replace(CANCELLED, is_answered=False), ONE_TRY),
    ],
    ids=["killed", "cancel lost", "response to the submission lost"],
)
def test_a_task_with_one_try_may_leave_its_execution_to_the_sweep_only_if_it_could_not_cancel_it(
    run: Execution, task: Task
) -> None:
    late = replace(run, stopped=TASK.ended + GRACE + 1)

    findings = compare([late], [task])
    assert findings.is_clean
    assert (findings.failed, findings.left_to_sweep) == (1, 1)
    assert len(compare([late], [replace(task, has_one_try=False)]).orphans) == 1
    assert len(compare([replace(late, stopped=inf)], [task]).orphans) == 1


def test_an_execution_that_a_task_with_one_try_could_have_cancelled_is_an_orphan() -> None:
    late = replace(CANCELLED, stopped=TASK.ended + GRACE + 1)

    assert len(compare([late], [ONE_TRY]).orphans) == 1
    assert len(compare([replace(EXECUTION, stopped=TASK.ended + 1)], [ONE_TRY]).orphans) == 1


@pytest.mark.parametrize(
    "second", [replace(CANCELLED, stopped=inf), replace(EXECUTION, id="second", queued=22.0, stopped=23.0)]
)
def test_two_good_executions_of_a_task_with_one_try_are_a_duplicate(second: Execution) -> None:
    assert len(compare([EXECUTION, second], [ONE_TRY]).duplicates) == 1


@pytest.mark.parametrize("state", ["success", "running"])
def test_a_task_with_one_try_that_did_not_fail_needs_the_result_of_its_execution(state: str) -> None:
    assert len(compare([EXECUTION], [replace(ONE_TRY, state=state)]).lost) == 1


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


# -- which submissions got a response ---------------------------------------------------------------------


def body(try_number: int = 1) -> dict[str, str]:
    """Return the body of a submission."""
    marker = {"dag_id": KEY[0], "run_id": KEY[1], "map_index": KEY[2], "try_number": try_number}
    return {"templateContext": json.dumps({"airflow": marker})}


def in_network(
    fault: NetworkFault | None = None, *, try_number: int = 1, forwarded: bool = True
) -> BalancerRequest:
    """Return a submission as the load balancer received it."""
    return BalancerRequest(
        operation="notebook.execute",
        method="POST",
        target="/execute",
        headers={},
        body=json.dumps(body(try_number)).encode(),
        fault=fault,
        forwarded=forwarded,
    )


def in_losant(status: int | None = 200, *, try_number: int = 1) -> Request:
    """Return a submission as Losant received it."""
    return Request(
        operation="notebook.execute",
        method="POST",
        path="/execute",
        query={},
        headers={},
        authorized=True,
        body=body(try_number),
        at=0.0,
        status=status,
    )


@pytest.mark.parametrize(
    ("fault", "is_answered"),
    [
        (None, True),
        (NetworkFault("drip_head", processed=True, size=10), True),
        (NetworkFault("close_after_response"), True),
        (NetworkFault("alert", processed=True), False),
        (NetworkFault("html", processed=True), False),
        (NetworkFault("drip_head", processed=True), False),
    ],
)
def test_a_submission_is_answered_if_the_network_lets_the_response_pass(
    fault: NetworkFault | None, is_answered: bool
) -> None:
    assert answered_markers([in_network(fault)], [in_losant()]) == ({(KEY, 1)} if is_answered else set())


@pytest.mark.parametrize("status", [None, 503])
def test_a_submission_is_not_answered_if_losant_did_not_respond(status: int | None) -> None:
    assert answered_markers([in_network()], [in_losant(status)]) == set()


def test_requests_that_never_reached_losant_are_left_out() -> None:
    sent = [in_network(NetworkFault("html"), forwarded=False), in_network(NetworkFault("close"))]

    assert answered_markers(sent, [in_losant()]) == set()


def test_each_try_has_its_own_responses() -> None:
    sent = [
        in_network(NetworkFault("close", processed=True)),
        in_network(try_number=2),
        in_network(try_number=3),
        in_network(NetworkFault("close", processed=True), try_number=2),
    ]
    received = [
        in_losant(try_number=3),
        in_losant(try_number=2, status=503),
        in_losant(),
        in_losant(try_number=2),
    ]

    assert answered_markers(sent, received) == {(KEY, 3)}
