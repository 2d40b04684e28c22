# SPDX-License-Identifier: Apache-2.0
"""Cost and concurrency: the checks before a submission, waiting in a worker or deferred."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowSkipException, TaskDeferred

from airflow_provider_losant.emulator import Emulator, Fault, Script
from airflow_provider_losant.exceptions import LosantConfigError, NotebookNotStarted, NotebookWaitTimedOut
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.provider.conftest import operations, set_connection, statuses
from tests.provider.tasks import BOTH_MODES, Task, Ti, context_of
from tests.support.factories import BRIEF

pytestmark = pytest.mark.usefixtures("losant_connection")


def operator(notebook: str, **options: Any) -> LosantNotebookExecuteOperator:
    given = {"task_id": "report", "notebook_id": notebook, "poll_interval": 0.02, **options}
    return LosantNotebookExecuteOperator(**given)


def task(notebook: str, **options: Any) -> Task:
    return Task(lambda: operator(notebook, **options))


def start_hanging(losant: Emulator, notebook: str, **options: Any) -> str:
    """Start an execution outside of the task that does not end by itself; later ones are short."""
    losant.script(notebook, Script(ending="hang"))
    started = LosantHook().execute_notebook(notebook, **options)
    losant.script(notebook, BRIEF)
    losant.clear_requests()
    return started


@BOTH_MODES
def test_without_conditions_no_request_is_added(losant: Emulator, notebook: str, *, deferrable: bool) -> None:
    task(notebook, deferrable=deferrable).run()

    assert operations(losant)[0] == "notebook.execute"
    assert set(operations(losant)[1:]) == {"notebook.logs"}


@BOTH_MODES
def test_a_task_skips_or_fails_while_another_execution_is_active(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    running = start_hanging(losant, notebook)

    with pytest.raises(AirflowSkipException, match=running):
        task(notebook, deferrable=deferrable, if_running="skip").run()
    with pytest.raises(NotebookNotStarted, match=running):
        task(notebook, deferrable=deferrable, if_running="fail").run()
    assert statuses(losant, notebook) == {running: "inProgress"}


@BOTH_MODES
def test_a_task_waits_for_another_execution_to_end_and_then_submits_its_own(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    losant.script(notebook, Script(notebook=0.3))
    other = LosantHook().execute_notebook(notebook)
    losant.script(notebook, BRIEF)

    one = task(notebook, deferrable=deferrable, if_running="wait")
    result = one.run()

    assert result["execution_id"] != other
    assert statuses(losant, notebook) == {result["execution_id"]: "completed", other: "completed"}
    seen = {it["id"]: it for it in losant.executions(notebook)}
    assert seen[result["execution_id"]]["runQueuedAt"] >= seen[other]["outputsCompletedAt"]
    assert [it.method_name for it in one.deferrals] == (
        ["execute_after_wait", "execute_complete"] if deferrable else []
    )


@BOTH_MODES
def test_waiting_for_another_execution_ends_with_the_timeout_without_cancelling_it(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    running = start_hanging(losant, notebook)

    with pytest.raises(NotebookNotStarted, match="the time to wait for it is over"):
        task(notebook, deferrable=deferrable, if_running="wait", timeout=0.2).run()
    assert statuses(losant, notebook) == {running: "inProgress"}


def test_a_deferred_wait_for_another_execution_ends_with_execution_timeout_too(
    losant: Emulator, notebook: str
) -> None:
    start_hanging(losant, notebook)

    with pytest.raises(NotebookNotStarted, match="the time to wait for it is over"):
        task(notebook, deferrable=True, if_running="wait", execution_timeout=timedelta(seconds=0.2)).run()


def test_a_deferred_wait_for_another_execution_never_cancels_it(losant: Emulator, notebook: str) -> None:
    start_hanging(losant, notebook)

    with pytest.raises(TaskDeferred) as deferred:
        operator(notebook, deferrable=True, if_running="wait").execute(context_of(Ti()))

    arguments = deferred.value.trigger.serialize()[1]
    assert (arguments["cancel_on_kill"], arguments["cancel_on_timeout"]) == (False, False)


def test_a_kill_while_waiting_for_another_execution_cancels_and_submits_nothing(
    losant: Emulator, notebook: str
) -> None:
    running = start_hanging(losant, notebook)
    waiting = operator(notebook, if_running="wait")
    threading.Timer(0.2, waiting.on_kill).start()

    with pytest.raises(AirflowException, match="killed"):
        waiting.execute(context_of(Ti()))
    assert statuses(losant, notebook) == {running: "inProgress"}


@BOTH_MODES
def test_a_task_adopts_an_execution_with_the_same_arguments(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    asked: dict[str, Any] = {"relative_to": "2026-01-01T00:00:00Z", "template_context": {"site": "north"}}
    losant.script(notebook, Script(notebook=0.3, files=BRIEF.files))
    other = LosantHook().execute_notebook(notebook, **asked)

    one = task(notebook, deferrable=deferrable, if_running="adopt", **asked)
    result = one.run()

    assert result["execution_id"] == one.ti.pushed["execution_id"] == other
    assert result["status"] == "completed"
    assert list(statuses(losant, notebook)) == [other]


@BOTH_MODES
def test_an_execution_with_another_context_is_not_adopted(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    other = start_hanging(losant, notebook, template_context={"site": "south"})

    result = task(
        notebook, deferrable=deferrable, if_running="adopt", template_context={"site": "north"}
    ).run()

    assert result["execution_id"] != other
    assert statuses(losant, notebook)[other] == "inProgress"


@BOTH_MODES
def test_an_adopted_execution_is_not_cancelled_by_the_tasks_timeout(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    other = start_hanging(losant, notebook)

    with pytest.raises(NotebookWaitTimedOut, match="was not cancelled"):
        task(notebook, deferrable=deferrable, if_running="adopt", timeout=0.2).run()
    assert statuses(losant, notebook) == {other: "inProgress"}


def test_an_adopted_execution_is_not_cancelled_by_a_kill_of_the_task(losant: Emulator, notebook: str) -> None:
    other = start_hanging(losant, notebook)
    adopting = operator(notebook, if_running="adopt")
    threading.Timer(0.2, adopting.on_kill).start()

    with pytest.raises(AirflowException, match="killed"):
        adopting.execute(context_of(Ti()))
    assert statuses(losant, notebook) == {other: "inProgress"}


def test_an_adopted_execution_is_not_cancelled_after_a_trigger_crash(losant: Emulator, notebook: str) -> None:
    other = start_hanging(losant, notebook)
    ti = Ti()
    with pytest.raises(TaskDeferred) as first:
        operator(notebook, deferrable=True, if_running="adopt").execute(context_of(ti))
    with pytest.raises(TaskDeferred) as second:
        operator(notebook, deferrable=True, if_running="adopt").resume_execution(
            "__fail__", {"error": "crashed"}, context_of(ti)
        )

    for deferred in (first, second):
        arguments = deferred.value.trigger.serialize()[1]
        assert (arguments["execution_id"], arguments["cancel_on_kill"], arguments["cancel_on_timeout"]) == (
            other,
            False,
            False,
        )


@BOTH_MODES
def test_previous_executions_are_cancelled_before_a_new_submission(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    losant.switches.cancel_delay = 0.2
    previous = [start_hanging(losant, notebook) for _ in range(2)]

    result = task(notebook, deferrable=deferrable, if_running="cancel_previous").run()

    assert statuses(losant, notebook) == {
        result["execution_id"]: "completed",
        **dict.fromkeys(previous, "canceled"),
    }
    assert operations(losant).count("notebook.cancelExecution") == 2
    # Not before the other executions had ended.
    cancelled = [it.at for it in losant.requests if it.operation == "notebook.cancelExecution"]
    (ordered,) = [it.at for it in losant.requests if it.operation == "notebook.execute"]
    assert ordered - max(cancelled) >= 0.2


@BOTH_MODES
@pytest.mark.parametrize("window", ["day", "billing_period"])
def test_nothing_is_submitted_when_the_minutes_are_used_up(
    losant: Emulator, notebook: str, window: str, *, deferrable: bool
) -> None:
    options = {"deferrable": deferrable, "max_minutes": 1, "minutes_window": window}
    task(notebook, **options).run()

    with pytest.raises(NotebookNotStarted, match="has used 1 run minutes"):
        task(notebook, **options).run()
    with pytest.raises(AirflowSkipException, match="has used 1 run minutes"):
        task(notebook, **options, on_exceeded="skip").run()
    assert len(losant.executions(notebook)) == 1


def test_a_retry_reconnects_to_its_own_execution_whatever_the_conditions(
    losant: Emulator, notebook: str
) -> None:
    ti = Ti()
    losant.script(notebook, Script(notebook=0.2))
    with pytest.raises(TaskDeferred):
        operator(notebook, deferrable=True, if_running="fail", max_minutes=1).execute(context_of(ti))
    ti.try_number = 2

    result = operator(notebook, if_running="fail", max_minutes=1).execute(context_of(ti))

    assert list(statuses(losant, notebook)) == [result["execution_id"]]


def test_nothing_is_submitted_when_conditions_cannot_be_checked(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, losant, password=losant.add_token(["notebook.execute"]))
    with pytest.raises(LosantConfigError, match=r"needs the scope notebook\.notebookMinuteCounts"):
        task(notebook, max_minutes=5).run()
    with pytest.raises(LosantConfigError, match=r"needs the scope notebook\.logs"):
        task(notebook, if_running="skip").run()

    set_connection(monkeypatch, losant)
    losant.inject("notebook.notebookMinuteCounts", Fault("server_error"), times=2)
    with pytest.raises(AirflowException, match="503"):
        task(notebook, max_minutes=5).run()
    assert losant.executions(notebook) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"if_running": "maybe"}, "if_running: 'maybe' is none of start, wait, adopt, skip, fail"),
        ({"max_minutes": -1}, "max_minutes: -1 is not a positive number"),
        ({"max_minutes": 5, "minutes_window": "week"}, "minutes_window: 'week' is none of day"),
        ({"max_minutes": 5, "on_exceeded": "wait"}, "on_exceeded: 'wait' is none of fail, skip"),
    ],
    ids=range(4),
)
def test_an_invalid_condition_is_named_before_any_request(
    losant: Emulator, notebook: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(LosantConfigError, match=says):
        task(notebook, **options).run()
    assert losant.requests == []
