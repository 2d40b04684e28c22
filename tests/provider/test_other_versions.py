# SPDX-License-Identifier: Apache-2.0
"""
What another version of this package has stored in Airflow's database can be read.

While a deployment is upgraded, workers, triggerers and DAG processors have different versions for a while.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_losant.decorators.notebook import losant_notebook_task
from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from airflow_provider_losant.triggers.event_stream import CheckpointStore, Subscription
from airflow_provider_losant.triggers.notebook import LosantNotebookEventTrigger
from airflow_provider_losant.triggers.sensor import LosantNotebookSensorTrigger
from tests.provider.tasks import Ti, context_of, fire, trigger
from tests.support.factories import BRIEF, NOTEBOOK_ID

pytestmark = pytest.mark.usefixtures("losant_connection")

NEWER = {"of_a_newer_version": {"nested": [1]}, "another": None}


def operator(notebook: str, **options: Any) -> LosantNotebookExecuteOperator:
    given = {"task_id": "report", "notebook_id": notebook, "deferrable": True, "poll_interval": 0.02}
    return LosantNotebookExecuteOperator(**{**given, **options})


def decorated(notebook: str, **options: Any) -> Any:
    # The decorator declares the arguments of notebooks only, none of those that each task has.
    given: dict[str, Any] = {"task_id": "report", "notebook_id": notebook, "poll_interval": 0.02}

    @losant_notebook_task(deferrable=True, **given, **options)
    def report() -> dict[str, Any]:
        return {"site": "north"}

    return report().operator  # type: ignore[attr-defined]  # of one task


def defer(task: Any, ti: Ti) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context_of(ti))
    return deferred.value


def from_database(row: tuple[str, dict[str, Any]], **more: Any) -> Any:
    module, _, name = row[0].rpartition(".")
    return getattr(import_module(module), name)(**{**row[1], **more})


# -- events and the arguments of a resumption -------------------------------------------------------------


@pytest.mark.parametrize("lacking", [(), ("errors", "error_log", "problem", "is_cancelled")])
def test_a_completed_execution_succeeds_with_the_event_of_another_version(
    losant: Emulator, notebook: str, lacking: tuple[str, ...]
) -> None:
    losant.script(notebook, BRIEF)
    ti = Ti()
    event = fire(defer(operator(notebook), ti).trigger)
    other = {name: it for name, it in event.items() if name not in lacking} | NEWER
    other["result"] |= NEWER

    result = operator(notebook).resume_execution(
        "execute_complete", {"event": other, **NEWER}, context_of(ti)
    )

    assert result.items() >= {"status": "completed", **NEWER}.items()


def test_a_sensor_succeeds_with_the_event_of_another_version(losant: Emulator, notebook: str) -> None:
    losant.script(notebook, BRIEF)
    sensor = LosantNotebookExecutionSensor(
        task_id="await", notebook_id=notebook, execution_id=LosantHook().execute_notebook(notebook)
    )
    event = fire(trigger(losant, notebook, sensor.execution_id))

    assert sensor.execute_complete(context_of(Ti()), event | NEWER, **NEWER)["status"] == "completed"


@pytest.mark.parametrize("make", [operator, decorated])
def test_a_task_that_waited_for_another_execution_continues_with_the_event_of_another_version(
    losant: Emulator, notebook: str, make: Callable[..., Any]
) -> None:
    losant.script(notebook, Script(notebook=0.1))
    LosantHook().execute_notebook(notebook)
    ti, task = Ti(), make(notebook, if_running="wait")
    event = fire(defer(task, ti).trigger)

    resume = {"event": event | NEWER, **NEWER}
    with pytest.raises(TaskDeferred) as deferred:
        task.resume_execution("execute_after_wait", resume, context_of(ti))

    assert deferred.value.method_name == "execute_complete"
    assert len(losant.executions(notebook)) == 2


@pytest.mark.parametrize("kept", [NEWER, NEWER | {"try_number": 1}, {}], ids=["unknown", "own", "empty"])
def test_a_try_continues_with_the_values_of_another_version(
    losant: Emulator, notebook: str, kept: dict[str, Any]
) -> None:
    losant.script(notebook, BRIEF)
    ti = Ti()
    event = fire(defer(operator(notebook), ti).trigger)
    ti.pushed["losant_try"] = kept

    with pytest.raises(TaskDeferred) as deferred:
        operator(notebook).resume_execution("__fail__", {"error": "", **NEWER}, context_of(ti))
    result = operator(notebook).execute_complete(context_of(ti), event)

    assert deferred.value.method_name == "execute_complete"
    assert result["status"] == "completed"
    assert len(losant.executions(notebook)) == 1


# -- trigger arguments ------------------------------------------------------------------------------------


def triggers(losant: Emulator, notebook: str) -> dict[str, Any]:
    sensor = LosantNotebookSensorTrigger(
        losant_conn_id="losant_default",
        application_id=None,
        notebook_id=notebook,
        execution_id=None,
        since=None,
        poll_interval=1.0,
        timeout=60.0,
        deferral_timeout=120.0,
    )
    return {"execution": trigger(losant, notebook, None), "sensor": sensor}


@pytest.mark.parametrize("kind", ["execution", "sensor"])
def test_a_trigger_with_stored_arguments_of_a_newer_version_is_made_without_them(
    losant: Emulator, notebook: str, kind: str
) -> None:
    made = triggers(losant, notebook)[kind]

    assert from_database(made.serialize(), **NEWER).serialize() == made.serialize()
    with pytest.raises(TypeError, match="has no argument another, of_a_newer_version"):
        from_database(made.serialize(), stored=False, **NEWER)


@pytest.mark.airflow(since="3.0")
def test_an_event_trigger_ignores_unknown_arguments_only_if_they_are_stored(notebook: str) -> None:
    stored = LosantNotebookEventTrigger(notebook_id=notebook).serialize()

    assert from_database(stored, **NEWER).serialize() == stored
    assert from_database((stored[0], {"notebook_id": notebook, "stored": True})).serialize() == stored
    with pytest.raises(TypeError, match="LosantNotebookEventTrigger has no argument poll_intervall"):
        LosantNotebookEventTrigger(notebook_id=notebook, poll_intervall=30)


def test_a_wait_with_stored_arguments_of_a_newer_version_ends_with_its_event(
    losant: Emulator, notebook: str
) -> None:
    losant.script(notebook, BRIEF)
    waiting = trigger(losant, notebook, LosantHook().execute_notebook(notebook))

    async def event() -> Any:
        fired = await anext(from_database(waiting.serialize(), **NEWER).run())
        return fired.payload

    assert asyncio.run(event())["is_success"]


@pytest.mark.parametrize("kind", ["execution", "sensor"])
def test_a_trigger_with_stored_arguments_of_an_older_version_chooses_any_execution(
    losant: Emulator, notebook: str, kind: str
) -> None:
    made = triggers(losant, notebook)[kind]
    path, stored = made.serialize()
    newer = ("statuses", "context_contains", "not_found_after", "max_log_lag")
    older = {name: value for name, value in stored.items() if name not in newer}

    assert len(older) < len(stored)
    assert from_database((path, older)).serialize() == made.serialize()


# -- checkpoints ------------------------------------------------------------------------------------------


class Store:
    """One asset's state store, with a value for every key."""

    def __init__(self, value: Any) -> None:
        self.value = value

    async def aget(self, key: str) -> Any:
        return json.loads(json.dumps(self.value))


SUBSCRIPTION = Subscription(
    losant_conn_id="losant_default",
    application_id=None,
    notebook_id=NOTEBOOK_ID,
    statuses=["completed"],
    poll_interval=60.0,
)
OTHER_CHECKPOINTS = {
    "newer": ({"since": 1.0, "delivered": {"a": 2.0}, **NEWER}, {"since": 1.0, "delivered": {"a": 2.0}}),
    "older": ({"since": 1.0}, {"since": 1.0, "delivered": {}}),
    "without since": ({"delivered": {"a": 2.0}}, None),
    "not an object": (["since"], None),
    "other types": ({"since": "yesterday", "delivered": {}}, None),
    "list": ({"since": 1.0, "delivered": ["a"]}, None),
    "number too large": ({"since": 10**400}, None),
}


@pytest.mark.parametrize(("stored", "loaded"), OTHER_CHECKPOINTS.values(), ids=OTHER_CHECKPOINTS)
def test_a_checkpoint_of_another_version_is_read_or_ignored(
    stored: Any, loaded: Any, caplog: pytest.LogCaptureFixture
) -> None:
    found = asyncio.run(CheckpointStore(SUBSCRIPTION, [Store(None), Store(stored)]).load())

    assert (None if found is None else found.to_json()) == loaded
    assert ("not a checkpoint" in caplog.text) == (loaded is None)
