# SPDX-License-Identifier: Apache-2.0
"""The trigger: its serialized form, its event, and when it cancels the execution."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import time
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_provider_losant.api.flows.wait import Target, WaitConfig
from airflow_provider_losant.emulator import Emulator, Fault, Script
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.triggers.notebook import MIN_DEFERRAL, LosantNotebookExecutionTrigger
from tests.provider.conftest import TaskLog, set_connection
from tests.provider.tasks import Ti, fire

pytestmark = pytest.mark.usefixtures("losant_connection")


def trigger(
    losant: Emulator, notebook: str, execution: str | None, **more: Any
) -> LosantNotebookExecutionTrigger:
    now = time.time()
    given: dict[str, Any] = {
        "losant_conn_id": "losant_default",
        "application_id": losant.application_id,
        "notebook_id": notebook,
        "execution_id": execution,
        "since": now - 60,
        "poll_interval": 0.02,
        "deadline": now + 20,
        "max_poll_outage": 5.0,
    }
    return LosantNotebookExecutionTrigger(**{**given, **more})


@pytest.fixture
def running(losant: Emulator, notebook: str) -> str:
    """Return the id of an execution that is active until it is cancelled."""
    losant.script(notebook, Script(ending="hang"))
    return LosantHook().execute_notebook(notebook)


def cancels(losant: Emulator) -> int:
    return sum(it.operation == "notebook.cancelExecution" for it in losant.requests)


# -- the serialized form ----------------------------------------------------------------------------------


def test_the_serialized_arguments_are_flat_json_and_complete(losant: Emulator, notebook: str) -> None:
    path, stored = trigger(losant, notebook, None).serialize()

    assert path == "airflow_provider_losant.triggers.notebook.LosantNotebookExecutionTrigger"
    assert json.loads(json.dumps(stored)) == stored
    assert all(it is None or isinstance(it, str | int | float | bool) for it in stored.values())
    assert list(stored) == list(inspect.signature(LosantNotebookExecutionTrigger).parameters)


def test_the_serialized_arguments_have_no_secret(losant: Emulator, notebook: str) -> None:
    assert losant.token not in json.dumps(trigger(losant, notebook, None).serialize())


def test_serialized_triggers_of_the_first_release_can_be_loaded(losant: Emulator, notebook: str) -> None:
    first: dict[str, Any] = {
        "losant_conn_id": "losant_default",
        "application_id": losant.application_id,
        "notebook_id": notebook,
        "execution_id": "0" * 24,
        "since": 1_767_225_600.0,
        "poll_interval": 20.0,
        "deadline": 1_767_312_000.0,
        "max_poll_outage": 600.0,
    }

    stored = LosantNotebookExecutionTrigger(**first).serialize()[1]

    assert stored.items() >= first.items()
    assert (stored["not_before"], stored["cancel_on_kill"], stored["cancel_on_timeout"]) == (
        0.0,
        False,
        False,
    )


# -- its event --------------------------------------------------------------------------------------------


def test_the_trigger_fires_once_with_the_public_result(losant: Emulator, notebook: str) -> None:
    execution = LosantHook().execute_notebook(notebook)

    event = fire(trigger(losant, notebook, execution))

    assert (event["ending"], event["is_success"]) == ("ended", True)
    assert event["result"]["execution_id"] == execution
    assert losant.files_url not in json.dumps(event)
    assert losant.token not in json.dumps(event)


def test_the_trigger_does_not_poll_before_not_before(losant: Emulator, notebook: str) -> None:
    execution = LosantHook().execute_notebook(notebook)
    not_before = time.time() + 0.1

    fire(trigger(losant, notebook, execution, not_before=not_before + MIN_DEFERRAL))

    assert losant.requests[1].at >= not_before - 0.01


def test_a_deferred_task_is_not_resumed_before_the_scheduler_knows_it_was_deferred(
    losant: Emulator, notebook: str
) -> None:
    target = Target.of(LosantHook().execution_ref(notebook, LosantHook().execute_notebook(notebook)))
    config = WaitConfig(poll_interval=1.0, deadline=time.time() + 60, max_poll_outage=5.0)

    taken = LosantNotebookExecutionTrigger.for_task(target, config, losant_conn_id="losant_default")

    assert taken.not_before >= time.time() + MIN_DEFERRAL - 1


def test_a_deadline_passed_without_a_triggerer_still_finds_an_ended_execution(
    losant: Emulator, notebook: str
) -> None:
    execution = LosantHook().execute_notebook(notebook)
    time.sleep(0.05)

    assert fire(trigger(losant, notebook, execution, deadline=time.time() - 3600))["is_success"]


@pytest.mark.parametrize("cancel", [True, False])
def test_a_deadline_that_passed_ends_the_wait(
    losant: Emulator, notebook: str, running: str, cancel: bool
) -> None:
    event = fire(trigger(losant, notebook, running, deadline=time.time() - 1, cancel_on_timeout=cancel))

    assert (event["ending"], event["is_cancelled"]) == ("deadline", cancel)
    assert cancels(losant) == cancel


def test_an_invalid_connection_ends_the_trigger_with_its_reason(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, losant, password="")

    with pytest.raises(Exception, match="Connection 'losant_default': password: is empty"):
        fire(trigger(losant, notebook, "0" * 24))


def test_the_event_loop_is_not_blocked_while_losant_is_silent(
    losant: Emulator, notebook: str, running: str
) -> None:
    losant.inject("notebook.logs", Fault("slow", seconds=0.2), times=5)
    gaps: list[float] = []

    async def beat() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.005)
            gaps.append(time.monotonic() - began)

    async def main() -> None:
        heart = asyncio.create_task(beat())
        async for _ in trigger(losant, notebook, running, deadline=time.time() + 0.3).run():
            break
        heart.cancel()

    asyncio.run(main())

    assert len(gaps) > 20
    assert sorted(gaps)[len(gaps) * 9 // 10] < 0.05


# -- killing: Airflow 3 asks its API, Airflow 2 its database; see test_airflow_2.py -----------------------

ON_3 = pytest.mark.airflow(since="3.0")


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


@ON_3
@pytest.mark.parametrize("map_index", [-1, 0, 3])
@pytest.mark.parametrize(
    ("state", "cancelled"),
    [
        ("failed", 1),
        ("success", 1),
        ("skipped", 1),
        ("queued", 1),
        ("running", 1),
        (None, 1),
        ("deferred", 0),
    ],
)
def test_a_kill_cancels_only_when_the_task_has_left_its_deferral(
    losant: Emulator,
    running: str,
    notebook: str,
    monkeypatch: pytest.MonkeyPatch,
    cancels_for: tuple[str | None, int, int],
) -> None:
    state, cancelled, map_index = cancels_for
    asked = set_task_state(monkeypatch, state)
    killed: Any = trigger(losant, notebook, running, cancel_on_kill=True)
    killed.task_instance = Ti(map_index=map_index)

    asyncio.run(killed.on_kill())

    assert cancels(losant) == cancelled
    assert [it["map_index"] for it in asked] == [map_index]


@pytest.fixture
def cancels_for(state: str | None, cancelled: int, map_index: int) -> tuple[str | None, int, int]:
    return state, cancelled, map_index


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


@ON_3
def test_without_on_kill_a_stopping_triggerer_cancels_no_execution(
    losant: Emulator, notebook: str, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_task_state(monkeypatch, "deferred")
    monkeypatch.delattr(BaseTrigger, "on_kill", raising=False)
    interrupt(trigger(losant, notebook, running, cancel_on_kill=True))

    assert cancels(losant) == 0
    assert losant.executions(notebook)[0]["status"] == "inProgress"


@ON_3
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
