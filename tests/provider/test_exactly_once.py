# SPDX-License-Identifier: Apache-2.0
"""Which events a task accepts, and what it does when its trigger failed without an event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_losant.emulator import Fault, Script
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from tests.provider.conftest import operations
from tests.provider.tasks import Task, Ti, context_of, fire, fire_together

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator
    from tests.provider.conftest import TaskLog

pytestmark = pytest.mark.usefixtures("losant_connection")

QUICK = Script(notebook=0.02)
ENDLESS = Script(ending="hang")


def operator(notebook: str, **options: Any) -> Any:
    settings = {"deferrable": True, "poll_interval": 0.02} | options
    return LosantNotebookExecuteOperator(task_id="report", notebook_id=notebook, **settings)


def defer(notebook: str, ti: Ti, **options: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        operator(notebook, **options).execute(context_of(ti))
    return deferred.value


def fail(
    ti: Ti, notebook: str, error: str = "Trigger failure", more: dict[str, Any] | None = None, **options: Any
) -> Any:
    failure = {"error": error, **(more or {})}
    return operator(notebook, **options).resume_execution("__fail__", failure, context_of(ti))


class TestAnEventOfAnotherExecution:
    """SQLite reuses the ids of triggers, so Airflow may send an event to a task that has the id now."""

    def test_does_not_complete_the_operator(self, losant: Emulator, notebook: str) -> None:
        losant.script(notebook, QUICK)
        stale = fire(defer(notebook, Ti(run_id="before")).trigger)
        losant.script(notebook, ENDLESS)
        ti = Ti()
        defer(notebook, ti)

        with pytest.raises(TaskDeferred) as again:
            operator(notebook).execute_complete(context_of(ti), event=stale)

        assert again.value.trigger.target.execution_id == ti.pushed["execution_id"]
        assert ti.pushed["execution_id"] != stale["result"]["execution_id"]

    def test_lets_the_operator_return_the_result_of_its_own_ended_execution(
        self, losant: Emulator, notebook: str
    ) -> None:
        losant.script(notebook, QUICK)
        stale = fire(defer(notebook, Ti(run_id="before")).trigger)
        ti = Ti()
        fire(defer(notebook, ti).trigger)

        with pytest.raises(TaskDeferred) as again:
            operator(notebook).execute_complete(context_of(ti), event=stale)
        result = operator(notebook).execute_complete(context_of(ti), event=fire(again.value.trigger))

        assert result["execution_id"] == ti.pushed["execution_id"]
        assert result["status"] == "completed"

    def test_does_not_complete_the_sensor(self, losant: Emulator, notebook: str) -> None:
        losant.script(notebook, QUICK)
        other = Task(lambda: operator(notebook)).run()
        event = {"ending": "ended", "is_success": True, "result": other}
        losant.script(notebook, ENDLESS)
        defer(notebook, ti := Ti())
        sensor = LosantNotebookExecutionSensor(
            task_id="await", notebook_id=notebook, execution_id=ti.pushed["execution_id"], deferrable=True
        )

        with pytest.raises(TaskDeferred) as again:
            sensor.execute_complete(context_of(Ti()), event=event)

        assert again.value.trigger.target.execution_id == ti.pushed["execution_id"]


class TestATriggerThatFailedWithoutAnEvent:
    """Airflow would fail the task, although the execution may be running well."""

    def test_leads_to_another_deferral_while_the_execution_is_active(
        self, losant: Emulator, notebook: str
    ) -> None:
        losant.script(notebook, ENDLESS)
        defer(notebook, ti := Ti())

        with pytest.raises(TaskDeferred) as again:
            fail(ti, notebook)

        assert again.value.trigger.target.execution_id == ti.pushed["execution_id"]
        assert operations(losant).count("notebook.execute") == 1

    def test_is_logged_with_its_traceback(self, losant: Emulator, notebook: str, task_log: TaskLog) -> None:
        losant.script(notebook, ENDLESS)
        defer(notebook, ti := Ti())

        with pytest.raises(TaskDeferred):
            fail(ti, notebook, more={"traceback": ["Traceback:\n", "KeyError: 'losant'\n"]})

        logged = task_log()
        assert "Trigger failed without an event (attempt 1 of 4): Trigger failure" in logged
        assert "KeyError: 'losant'" in logged

    def test_leads_to_the_result_when_the_execution_has_ended(self, losant: Emulator, notebook: str) -> None:
        losant.script(notebook, QUICK)
        fire(defer(notebook, ti := Ti()).trigger)

        with pytest.raises(TaskDeferred) as again:
            fail(ti, notebook)
        result = operator(notebook).execute_complete(context_of(ti), event=fire(again.value.trigger))

        assert result["status"] == "completed"

    def test_of_many_tasks_at_once_sends_no_request_but_the_poll_that_they_share(
        self, losant: Emulator, notebook: str
    ) -> None:
        losant.script(notebook, QUICK)
        tis = [Ti(run_id=f"run {number}") for number in range(150)]
        for ti in tis:
            defer(notebook, ti)
        losant.clear_requests()
        waiting = []
        for ti in tis:
            with pytest.raises(TaskDeferred) as again:
                fail(ti, notebook)
            waiting.append(again.value.trigger)
        assert operations(losant) == []
        losant.inject("notebook.logs", Fault("rate_limited", retry_after=1))

        events = fire_together(waiting)

        own = [ti.pushed["execution_id"] for ti in tis]
        assert [event["result"]["execution_id"] for event in events] == own
        assert len(operations(losant)) <= 3

    def test_repeatedly_makes_the_worker_wait_itself(self, losant: Emulator, notebook: str) -> None:
        losant.script(notebook, Script(notebook=0.6))
        defer(notebook, ti := Ti())
        for _ in range(3):
            with pytest.raises(TaskDeferred):
                fail(ti, notebook)

        assert fail(ti, notebook)["status"] == "completed"

    def test_for_a_timeout_cancels_the_execution(self, losant: Emulator, notebook: str) -> None:
        losant.script(notebook, ENDLESS)
        defer(notebook, ti := Ti())

        with pytest.raises(Exception, match=r"within timeout .* and was cancelled"):
            fail(ti, notebook, "Trigger timeout", timeout=0.001)

        assert operations(losant).count("notebook.cancelExecution") == 1

    def test_without_an_execution_id_fails_with_airflows_own_error(self, notebook: str) -> None:
        with pytest.raises(Exception, match="Trigger failure"):
            fail(Ti(), notebook)
