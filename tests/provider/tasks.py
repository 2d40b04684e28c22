# SPDX-License-Identifier: Apache-2.0
"""Run a task without a scheduler: a context for it, and a triggerer that rebuilds its trigger."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_losant._compat import AIRFLOW_3
from airflow_provider_losant.triggers.notebook import LosantNotebookExecutionTrigger

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator

BOTH_MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])
DAG_RUN_START = datetime.now(UTC)


@dataclass
class Ti:
    """Replaces Airflow's task instance, with the attributes and methods that a task uses."""

    task_id: str = "report"
    dag_id: str = "energy"
    run_id: str = "manual__2026-01-01"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    start_date: datetime = field(default_factory=lambda: datetime.now(UTC))
    dag_run_start: datetime = DAG_RUN_START
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: Any = None, key: str = "return_value", **_: Any) -> Any:
        return self.pushed.get(key)


class TaskStateStore(dict[str, Any]):
    """Replaces the task state store of Airflow 3.3, which all tries of a task share."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


def context_of(ti: Ti) -> Any:
    return {"ti": ti, "dag_run": SimpleNamespace(start_date=ti.dag_run_start), "params": {}}


def outlet_events() -> Any:
    """Return the object with which a task fills the events of its outlets."""
    module = "airflow.sdk.execution_time.context" if AIRFLOW_3 else "airflow.utils.context"
    return import_module(module).OutletEventAccessors()


def trigger(
    losant: Emulator, notebook: str, execution: str | None, **more: Any
) -> LosantNotebookExecutionTrigger:
    """Make a trigger with short times; ``more`` replaces its arguments."""
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


def fire(waiting: Any) -> dict[str, Any]:
    """Return the event of a trigger, as :func:`fire_together`."""
    [event] = fire_together([waiting])
    return event


def fire_together(waiting: Sequence[Any]) -> list[dict[str, Any]]:
    """
    Rebuild triggers from what Airflow stores, as a triggerer does, and return their events.

    Gives no scheduler time to notice the deferral, because there is none here.
    """

    async def first(trigger: Any) -> Any:
        async for event in trigger.run():
            return event.payload
        raise AssertionError("the trigger fired nothing")

    async def main() -> list[Any]:
        return await asyncio.gather(*(first(_rebuilt(it)) for it in waiting))

    events: list[dict[str, Any]] = json.loads(json.dumps(asyncio.run(main())))
    return events


def _rebuilt(waiting: Any) -> Any:
    stored = json.loads(json.dumps(waiting.serialize()))
    module, _, name = stored[0].rpartition(".")
    rebuilt = getattr(import_module(module), name)(**stored[1])
    assert json.loads(json.dumps(rebuilt.serialize())) == stored
    rebuilt.deferred_at = 0.0
    return rebuilt


@dataclass
class Task:
    """
    A task that can be run, deferred or not.

    :param make: Makes its operator: once to execute it, and again where Airflow would use a new process.
    :param more: More entries of its context.
    """

    make: Callable[[], Any]
    ti: Ti = field(default_factory=Ti)
    deferrals: list[TaskDeferred] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    def run(self) -> Any:
        context = context_of(self.ti) | self.more
        resume: Callable[[], Any] = partial(self.make().execute, context)
        while True:
            try:
                return resume()
            except TaskDeferred as raised:
                deferral = raised
            self.deferrals.append(deferral)
            method = getattr(self.make(), deferral.method_name)
            assert deferral.kwargs is None
            resume = partial(method, context, event=fire(deferral.trigger))
