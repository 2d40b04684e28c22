# SPDX-License-Identifier: Apache-2.0
"""A kill of a deferred task: Airflow 3 asks its API for the task's state; see test_airflow_2.py for 2."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_provider_losant.emulator import Emulator, Fault
from tests.provider.conftest import TaskLog, cancels
from tests.provider.tasks import Ti, trigger

pytestmark = pytest.mark.usefixtures("losant_connection")

ON_3 = pytest.mark.airflow(since="3.0")
MAY_MOVE = pytest.mark.airflow(since="3.0", before="3.4")
"""Where a kill may mean that the trigger moves to another triggerer."""


def set_task_state(monkeypatch: pytest.MonkeyPatch, state: str | None) -> list[dict[str, Any]]:
    """Replace Airflow's response about the state of a task instance."""
    asked: list[dict[str, Any]] = []
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    def get_task_states(**what: Any) -> dict[str, dict[str, str]]:
        asked.append(what)
        key = what["task_ids"][0] + (f"_{what['map_index']}" if what["map_index"] >= 0 else "")
        return {what["run_ids"][0]: {key: state}} if state else {}

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(get_task_states))
    return asked


STATES: dict[str | None, bool] = {
    None: True,  # cleared or deleted
    "success": True,
    "failed": True,
    "skipped": True,
    "upstream_failed": True,
    "removed": True,
    "deferred": False,
    "queued": False,
    "running": False,
    "scheduled": False,
    "restarting": False,
    "up_for_retry": False,
    "up_for_reschedule": False,
    "awaiting_input": False,  # since Airflow 3.3
    "shutdown": False,  # in Airflow 2
}
"""Whether the trigger's kill cancels the execution, by the state of the task instance."""


def test_for_every_state_of_a_task_it_is_defined_whether_a_kill_cancels() -> None:
    from airflow.utils.state import TaskInstanceState

    assert {it.value for it in TaskInstanceState} <= STATES.keys()


@MAY_MOVE
@pytest.mark.parametrize(("state", "cancelled"), STATES.items())
def test_a_kill_cancels_only_when_airflow_does_not_run_the_task_any_more(
    losant: Emulator,
    running: str,
    notebook: str,
    monkeypatch: pytest.MonkeyPatch,
    task_log: TaskLog,
    *,
    state: str | None,
    cancelled: bool,
) -> None:
    set_task_state(monkeypatch, state)
    killed: Any = trigger(losant, notebook, running, cancel_on_kill=True)
    killed.task_instance = Ti()

    asyncio.run(killed.on_kill())

    assert cancels(losant) == cancelled
    name = f"execution {running} of notebook {notebook}"
    if cancelled:
        assert f"Asked Losant to cancel the {name}, because its task is {state or 'cleared'}" in task_log()
    else:
        expected = f"Not cancelling the {name}: its task is {state}. If a user has cleared it, its next try"
        assert expected in task_log()


@pytest.mark.airflow(since="3.4")
@pytest.mark.parametrize("state", STATES)
def test_a_kill_cancels_without_asking_where_airflow_calls_it_only_for_marked_and_cleared_tasks(
    losant: Emulator, running: str, notebook: str, monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    # The state would be that of the latest iteration, if the task is looped.
    asked = set_task_state(monkeypatch, state)
    killed: Any = trigger(losant, notebook, running, cancel_on_kill=True)
    killed.task_instance = Ti()

    asyncio.run(killed.on_kill())

    assert cancels(losant) == 1
    assert asked == []


@MAY_MOVE
@pytest.mark.parametrize("map_index", [-1, 0, 3])
def test_a_kill_asks_for_the_state_of_its_own_mapped_task(
    losant: Emulator, running: str, notebook: str, monkeypatch: pytest.MonkeyPatch, map_index: int
) -> None:
    asked = set_task_state(monkeypatch, "failed")
    killed: Any = trigger(losant, notebook, running, cancel_on_kill=True)
    killed.task_instance = Ti(map_index=map_index)

    asyncio.run(killed.on_kill())

    assert [it["map_index"] for it in asked] == [map_index]


@ON_3
@pytest.mark.parametrize(
    "more", [{"cancel_on_kill": False}, {"execution": None, "cancel_on_kill": True}], ids=str
)
def test_a_kill_does_not_cancel_an_execution_owned_by_another_task(
    losant: Emulator, notebook: str, running: str, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    asked = set_task_state(monkeypatch, "failed")
    killed: Any = trigger(**{"losant": losant, "notebook": notebook, "execution": running, **more})
    killed.task_instance = Ti()

    asyncio.run(killed.on_kill())

    assert cancels(losant) == 0
    assert asked == []


@ON_3
def test_the_cancel_after_a_kill_is_retried_while_losant_is_unavailable(
    losant: Emulator, notebook: str, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "failed")
    losant.inject("notebook.cancelExecution", Fault("reset_before"))
    killed: Any = trigger(losant, notebook, running, cancel_on_kill=True)
    killed.task_instance = Ti()

    asyncio.run(killed.on_kill())

    assert losant.executions(notebook)[0]["status"] == "canceled"


@ON_3
def test_a_kill_right_after_the_submission_cancels_as_soon_as_losant_knows_the_execution(
    losant: Emulator, notebook: str, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "failed")
    losant.switches.cancel_lag = 1.5
    killed: Any = trigger(losant, notebook, running, cancel_on_kill=True)
    killed.task_instance = Ti()

    asyncio.run(killed.on_kill())

    assert losant.executions(notebook)[0]["status"] == "canceled"


@ON_3
def test_a_cancel_that_takes_longer_than_airflow_gives_a_trigger_is_logged(
    losant: Emulator,
    notebook: str,
    running: str,
    monkeypatch: pytest.MonkeyPatch,
    task_log: TaskLog,
) -> None:
    set_task_state(monkeypatch, "failed")
    monkeypatch.setattr("airflow_provider_losant.triggers.notebook.KILL_BUDGET", 0.5)
    losant.switches.cancel_lag = 60.0
    killed: Any = trigger(losant, notebook, running, cancel_on_kill=True)
    killed.task_instance = Ti()

    asyncio.run(killed.on_kill())

    assert "could not be cancelled within 0.5 s and may still use run minutes" in task_log()


@ON_3
def test_a_kill_that_airflow_repeats_every_second_is_completed(
    losant: Emulator, notebook: str, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "failed")
    losant.inject("notebook.cancelExecution", Fault("slow", seconds=0.2))
    killed: Any = trigger(losant, notebook, running, cancel_on_kill=True)
    killed.task_instance = Ti()

    async def main() -> None:
        job = asyncio.create_task(killed.on_kill())
        while not job.done():
            await asyncio.sleep(0.03)
            job.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await job

    asyncio.run(main())

    assert losant.executions(notebook)[0]["status"] == "canceled"
    assert cancels(losant) == 1


@pytest.mark.airflow(since="3.3")
def test_a_triggerer_that_stops_cancels_nothing(
    losant: Emulator, notebook: str, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "failed")
    interrupt(trigger(losant, notebook, running, cancel_on_kill=True))

    assert cancels(losant) == 0
    assert losant.executions(notebook)[0]["status"] == "inProgress"


@MAY_MOVE
def test_without_on_kill_a_stopping_triggerer_cancels_no_execution(
    losant: Emulator, notebook: str, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "deferred")
    monkeypatch.delattr(BaseTrigger, "on_kill", raising=False)
    interrupt(trigger(losant, notebook, running, cancel_on_kill=True))

    assert cancels(losant) == 0
    assert losant.executions(notebook)[0]["status"] == "inProgress"


@MAY_MOVE
def test_without_on_kill_an_interrupted_trigger_of_a_killed_task_cancels(
    losant: Emulator, notebook: str, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "failed")
    monkeypatch.delattr(BaseTrigger, "on_kill", raising=False)
    interrupt(trigger(losant, notebook, running, cancel_on_kill=True))

    assert cancels(losant) == 1


def interrupt(waiting: Any) -> None:
    """Cancel a trigger's coroutine during its wait."""
    waiting.task_instance = Ti()

    async def first() -> Any:
        async for event in waiting.run():
            return event
        return None

    async def main() -> None:
        job = asyncio.create_task(first())
        await asyncio.sleep(0.05)
        job.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await job
        assert job.cancelled()

    asyncio.run(main())
