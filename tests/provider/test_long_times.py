# SPDX-License-Identifier: Apache-2.0
"""Times that stand for "never" are not beyond what Airflow, its database and Python can handle."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_losant.api.defaults import LONGEST
from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.exceptions import LosantConfigError
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.operators.sweep import LosantNotebookOrphanSweepOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from tests.provider.conftest import operations
from tests.provider.tasks import BOTH_MODES, Task, Ti, context_of

pytestmark = pytest.mark.usefixtures("losant_connection")

NEVER: list[Any] = [timedelta.max, 1e12, 10**400]
NAMES = ["timedelta.max", "1e12", "10**400"]
LONG = pytest.mark.parametrize("value", NEVER, ids=NAMES)
LONG_IN_AIRFLOW = pytest.mark.parametrize("value", NEVER[:2], ids=NAMES[:2])
"""Airflow itself refuses the third in a sensor."""


def assert_possible(deferral: TaskDeferred) -> None:
    """Check the timestamps that Airflow and Python make of a deferral's times."""
    assert deferral.timeout is not None
    assert datetime.now(UTC) + deferral.timeout < datetime.now(UTC) + timedelta(seconds=4 * LONGEST)
    _, arguments = deferral.trigger.serialize()
    assert json.loads(json.dumps(arguments)) == arguments
    now = datetime.now(UTC)
    assert datetime.fromtimestamp(arguments["deadline"], UTC) > now
    assert now + timedelta(seconds=arguments["poll_interval"] + arguments["max_poll_outage"]) > now


@LONG
@BOTH_MODES
@pytest.mark.parametrize("name", ["timeout", "max_poll_outage", "max_log_lag"])
def test_a_task_with_a_time_without_end_runs_its_notebook_once(
    losant: Emulator, notebook: str, *, deferrable: bool, name: str, value: Any
) -> None:
    options = {"poll_interval": 0.02, "deferrable": deferrable, name: value}
    one = Task(lambda: LosantNotebookExecuteOperator(task_id="report", notebook_id=notebook, **options))

    assert one.run()["status"] == "completed"

    assert operations(losant).count("notebook.execute") == 1
    for deferral in one.deferrals:
        assert_possible(deferral)


@LONG
def test_a_deferral_with_a_poll_interval_without_end_is_possible(
    losant: Emulator, notebook: str, value: Any
) -> None:
    operator = LosantNotebookExecuteOperator(
        task_id="report", notebook_id=notebook, deferrable=True, poll_interval=value, timeout=value
    )

    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context_of(Ti()))

    assert operations(losant).count("notebook.execute") == 1
    assert_possible(deferred.value)


@BOTH_MODES
def test_a_task_with_an_execution_timeout_without_end_runs_its_notebook_once(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    options: dict[str, Any] = {"execution_timeout": timedelta.max, "poll_interval": 0.02}
    one = Task(
        lambda: LosantNotebookExecuteOperator(
            task_id="report", notebook_id=notebook, deferrable=deferrable, **options
        )
    )

    assert one.run()["status"] == "completed"

    assert operations(losant).count("notebook.execute") == 1
    for deferral in one.deferrals:
        assert_possible(deferral)


@BOTH_MODES
@LONG_IN_AIRFLOW
@pytest.mark.parametrize("name", ["timeout", "execution_timeout"])
def test_a_sensor_with_a_timeout_without_end_returns_the_result(
    losant: Emulator, notebook: str, *, deferrable: bool, name: str, value: Any
) -> None:
    losant.script(notebook, Script(notebook=0.3))
    execution = LosantHook().execute_notebook(notebook)
    given: dict[str, Any] = {
        name: timedelta.max if name == "execution_timeout" else value,
        "poke_interval": 0.02,
    }
    one = Task(
        lambda: LosantNotebookExecutionSensor(
            task_id="await", notebook_id=notebook, execution_id=execution, deferrable=deferrable, **given
        )
    )

    assert one.run()["status"] == "completed"

    assert len(one.deferrals) == deferrable
    for deferral in one.deferrals:
        assert_possible(deferral)


@LONG_IN_AIRFLOW
def test_a_deferral_of_a_sensor_with_times_without_end_is_possible(
    losant: Emulator, notebook: str, value: Any
) -> None:
    losant.script(notebook, Script(ending="hang"))
    execution = LosantHook().execute_notebook(notebook)
    sensor = LosantNotebookExecutionSensor(
        task_id="await",
        notebook_id=notebook,
        execution_id=execution,
        deferrable=True,
        timeout=value,
        poke_interval=value,
    )

    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context_of(Ti()))

    assert_possible(deferred.value)


@pytest.mark.airflow(since="3.3")
@LONG_IN_AIRFLOW
def test_a_sensor_that_starts_in_the_triggerer_may_have_times_without_end(value: Any) -> None:
    sensor = LosantNotebookExecutionSensor(
        task_id="await",
        notebook_id="0" * 24,
        execution_id="0" * 24,
        deferrable=True,
        start_from_trigger=True,
        timeout=value,
        poke_interval=value,
    )

    start = sensor.start_trigger_args

    assert start is not None
    assert start.timeout is not None
    assert start.trigger_kwargs is not None
    assert sensor.start_from_trigger
    assert datetime.now(UTC) + start.timeout < datetime.now(UTC) + timedelta(seconds=4 * LONGEST)
    assert max(it for it in start.trigger_kwargs.values() if isinstance(it, float)) < 4 * LONGEST


@LONG
def test_a_sweep_may_look_back_without_end(losant: Emulator, notebook: str, value: Any) -> None:
    losant.script(notebook, Script(ending="hang"))
    LosantHook().execute_notebook(notebook)
    sweep = LosantNotebookOrphanSweepOperator(task_id="sweep", max_age=value)

    assert sweep.execute({})["left"] == {"not submitted by Airflow": 1}


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 0, -1, timedelta(0), True], ids=repr)
@pytest.mark.parametrize("name", ["timeout", "poll_interval", "max_poll_outage", "max_log_lag"])
def test_what_is_no_time_is_refused_before_any_request(
    losant: Emulator, notebook: str, name: str, value: Any
) -> None:
    with pytest.raises(LosantConfigError, match=rf"^{name}: .* is not a positive number"):
        LosantNotebookExecuteOperator(task_id="report", notebook_id=notebook, **{name: value})

    assert losant.requests == []
