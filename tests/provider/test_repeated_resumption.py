# SPDX-License-Identifier: Apache-2.0
"""Airflow 3.0 begins a retry as the resumption of the try before, with its event; see test_submitting.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_losant.emulator import Script
from airflow_provider_losant.exceptions import NotebookExecutionFailed
from airflow_provider_losant.execution import try_state
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.provider.conftest import operations
from tests.provider.tasks import Ti, context_of, fire
from tests.support.factories import BRIEF

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator

pytestmark = pytest.mark.usefixtures("losant_connection")

ERRORED = Script(notebook=0.02, ending="errored")


@pytest.fixture(autouse=True)
def as_in_airflow_3_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a task note its try before a deferral, on every Airflow."""
    monkeypatch.setattr(try_state, "retry_repeats_resumption", lambda: True)


def operator(notebook: str) -> Any:
    return LosantNotebookExecuteOperator(
        task_id="report", notebook_id=notebook, deferrable=True, poll_interval=0.02, max_log_lag=0.05
    )


def defer(notebook: str, ti: Ti) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        operator(notebook).execute(context_of(ti))
    return deferred.value


def resume(notebook: str, ti: Ti, method: str, **arguments: Any) -> Any:
    return operator(notebook).resume_execution(method, arguments, context_of(ti))


def test_a_retry_that_begins_with_the_event_of_a_failed_execution_submits_a_new_one(
    losant: Emulator, notebook: str
) -> None:
    losant.script(notebook, ERRORED)
    ti = Ti(max_tries=1)
    event = fire(defer(notebook, ti).trigger)
    with pytest.raises(NotebookExecutionFailed):
        resume(notebook, ti, "execute_complete", event=event)
    losant.script(notebook, BRIEF)
    ti.try_number = 2

    with pytest.raises(TaskDeferred) as deferred:
        resume(notebook, ti, "execute_complete", event=event)
    result = resume(notebook, ti, deferred.value.method_name, event=fire(deferred.value.trigger))

    second, first = losant.executions(notebook)
    assert (result["execution_id"], result["status"]) == (second["id"], "completed")
    assert event["result"]["execution_id"] == first["id"]
    assert operations(losant).count("notebook.execute") == 2


def test_a_retry_that_begins_with_the_failure_of_a_trigger_reconnects(
    losant: Emulator, notebook: str
) -> None:
    losant.script(notebook, Script(ending="hang"))
    ti = Ti(max_tries=1)
    defer(notebook, ti)
    ti.try_number = 2

    with pytest.raises(TaskDeferred) as deferred:
        resume(notebook, ti, "__fail__", error="Trigger timeout")

    assert deferred.value.trigger.target.execution_id == ti.pushed["execution_id"]
    assert operations(losant).count("notebook.execute") == 1


def test_a_try_that_is_resumed_itself_continues_with_its_event(losant: Emulator, notebook: str) -> None:
    ti = Ti(try_number=2, max_tries=2)
    event = fire(defer(notebook, ti).trigger)

    result = resume(notebook, ti, "execute_complete", event=event)

    assert result["execution_id"] == ti.pushed["execution_id"]
    assert operations(losant).count("notebook.execute") == 1


def test_without_a_noted_try_a_resumption_continues_with_its_event(losant: Emulator, notebook: str) -> None:
    ti = Ti(try_number=2, max_tries=2)
    event = fire(defer(notebook, ti).trigger)
    del ti.pushed["losant_try"]

    assert resume(notebook, ti, "execute_complete", event=event)["status"] == "completed"
    assert operations(losant).count("notebook.execute") == 1
