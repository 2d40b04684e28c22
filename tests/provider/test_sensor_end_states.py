# SPDX-License-Identifier: Apache-2.0
"""A sensor ends in the same state in a worker and deferred, also with soft_fail and never_fail."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_losant._compat import TRIGGER_FAILED, AirflowTaskTimeout
from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.exceptions import NotebookWaitTimedOut
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from tests.provider.conftest import set_connection
from tests.provider.tasks import Ti, context_of, fire

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("losant_connection")

MODES: dict[str, dict[str, Any]] = {"poke": {}, "deferred": {"deferrable": True}}
ALL_MODES = pytest.mark.parametrize("mode", MODES)
"""Rescheduling needs a scheduler; it executes what poking executes."""
FLAGS: dict[str, dict[str, Any]] = {
    "hard": {},
    "soft": {"soft_fail": True},
    "never": {"never_fail": True},
}
CLOSED = "http://127.0.0.1:9"


def sensor(notebook: str, execution: str, **options: Any) -> LosantNotebookExecutionSensor:
    given = {"task_id": "await", "notebook_id": notebook, "poke_interval": 0.02, "timeout": 20.0}
    return LosantNotebookExecutionSensor(**{**given, "execution_id": execution, **options})


def run(make: Callable[[], LosantNotebookExecutionSensor], ti: Ti | None = None) -> Any:
    """Execute a sensor, and resume it after its deferral as Airflow does."""
    context = context_of(ti or Ti())
    try:
        return make().execute(context)
    except TaskDeferred as raised:
        deferral = raised
    event = {"event": fire(deferral.trigger)}
    return make().resume_execution(deferral.method_name, event, context)


def state_of(make: Callable[[], LosantNotebookExecutionSensor]) -> str:
    """Return the state in which Airflow ends the task."""
    try:
        run(make)
    except AirflowSkipException:
        return "skipped"
    except (AirflowFailException, AirflowSensorTimeout):
        return "failed"
    except (AirflowTaskTimeout, Exception):  # noqa: BLE001 - whatever it is, Airflow retries after it
        return "up for retry"
    return "success"


def without_connection(_: Emulator, notebook: str) -> dict[str, Any]:
    return {"losant_conn_id": "unknown"}


def too_long(losant: Emulator, notebook: str) -> dict[str, Any]:
    losant.script(notebook, Script(ending="hang"))
    return {"execution_id": LosantHook().execute_notebook(notebook), "timeout": 0.2}


def unreachable(*_: Any) -> dict[str, Any]:
    return {"losant_conn_id": "losant_closed", "timeout": 0.2}


def unreachable_by_name(*_: Any) -> dict[str, Any]:
    by_name = {"notebook_id": None, "notebook_name": "Report"}
    return {"losant_conn_id": "losant_closed", "timeout": 0.2, **by_name}


def wrong_token(*_: Any) -> dict[str, Any]:
    return {"losant_conn_id": "losant_wrong", "timeout": 0.2}  # until when the token may be replaced


def failed_execution(losant: Emulator, notebook: str) -> dict[str, Any]:
    losant.script(notebook, Script(notebook=0.05, ending="errored"))
    return {"execution_id": LosantHook().execute_notebook(notebook)}


def invalid_id(*_: Any) -> dict[str, Any]:
    return {"execution_id": "Report"}


def wrong_values(losant: Emulator, notebook: str) -> dict[str, Any]:
    return {"execution_id": LosantHook().execute_notebook(notebook), "values_from": "missing.json"}


ENDS: dict[str, tuple[Any, str, str]] = {
    "no connection": (without_connection, "up for retry", "up for retry"),
    "timeout": (too_long, "failed", "skipped"),
    "unreachable host": (unreachable, "failed", "skipped"),
    "unreachable host, by name": (unreachable_by_name, "failed", "skipped"),
    "wrong token": (wrong_token, "failed", "skipped"),
    "failed execution": (failed_execution, "failed", "skipped"),
    "invalid id": (invalid_id, "failed", "skipped"),
    "missing values": (wrong_values, "failed", "skipped"),
}
"""The state without soft_fail, and with it; with never_fail, a sensor is always skipped."""


@ALL_MODES
@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("case", ENDS)
def test_a_sensor_ends_in_the_same_state_in_all_modes(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, *, case: str, flag: str, mode: str
) -> None:
    set_connection(monkeypatch, losant, "losant_closed", {"max_retries": 0}, host=CLOSED)
    set_connection(monkeypatch, losant, "losant_wrong", password="wrong")
    prepare, hard, soft = ENDS[case]
    options = {"execution_id": "0" * 24, **prepare(losant, notebook)}

    def make() -> LosantNotebookExecutionSensor:
        # The id as a template renders it, because a wrong one in a DAG is refused when the DAG is parsed.
        one = sensor(
            notebook, "{{ id }}", **MODES[mode], **FLAGS[flag], **{**options, "execution_id": "{{ id }}"}
        )
        one.execution_id = options["execution_id"]
        return one

    assert state_of(make) == {"hard": hard, "soft": soft, "never": "skipped"}[flag]


@ALL_MODES
@pytest.mark.parametrize(
    ("flag", "state"), [("hard", "up for retry"), ("soft", "up for retry"), ("never", "skipped")]
)
def test_what_a_retry_may_heal_skips_only_a_sensor_that_never_fails(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, *, flag: str, state: str, mode: str
) -> None:
    losant.script(notebook, Script(notebook=0.1))
    execution = LosantHook().execute_notebook(notebook)

    def make() -> LosantNotebookExecutionSensor:
        one = sensor(notebook, execution, **MODES[mode], **FLAGS[flag])
        monkeypatch.setattr(one, "_finish", failing(AirflowException("for now")))
        return one

    assert state_of(make) == state


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("flag", FLAGS)
def test_a_sensor_whose_trigger_failed_is_skipped_if_it_may_be(notebook: str, flag: str) -> None:
    one = sensor(notebook, "0" * 24, deferrable=True, **FLAGS[flag])

    with pytest.raises(Exception) as caught:  # noqa: PT011 - its class differs between Airflow versions
        one.resume_execution(TRIGGER_FAILED, {"error": "Trigger failure"}, context_of(Ti()))

    assert isinstance(caught.value, AirflowSkipException) == (flag != "hard")


# -- execution_timeout ------------------------------------------------------------------------------------


def stored(notebook: str, ti: Ti, **options: Any) -> tuple[TaskDeferred, dict[str, Any]]:
    """Return the deferral of a sensor, and the arguments of its trigger."""
    with pytest.raises(TaskDeferred) as deferral:
        sensor(notebook, options.pop("execution"), deferrable=True, **options).execute(context_of(ti))
    return deferral.value, deferral.value.trigger.serialize()[1]


def test_a_deferred_wait_ends_with_execution_timeout(losant: Emulator, notebook: str) -> None:
    losant.script(notebook, Script(ending="hang"))
    execution, ti = LosantHook().execute_notebook(notebook), Ti()

    deferral, trigger = stored(
        notebook, ti, execution=execution, timeout=7 * 86_400, execution_timeout=timedelta(seconds=30)
    )

    assert trigger["deadline"] == pytest.approx(ti.start_date.timestamp() + 30, abs=0.01)
    assert deferral.timeout is not None
    assert timedelta(seconds=100) < deferral.timeout < timedelta(seconds=160)


def test_a_deadline_counts_from_the_start_of_the_try_and_not_anew_with_each_deferral(
    losant: Emulator, notebook: str
) -> None:
    losant.script(notebook, Script(ending="hang"))
    execution = LosantHook().execute_notebook(notebook)
    ti = Ti(start_date=datetime.now(UTC) - timedelta(seconds=20))

    for options, allowed in (({}, 100), ({"execution_timeout": timedelta(seconds=30)}, 30)):
        _, trigger = stored(notebook, ti, execution=execution, timeout=100, **options)

        assert trigger["deadline"] == pytest.approx(ti.start_date.timestamp() + allowed, abs=0.01)


@pytest.mark.parametrize(
    ("flag", "expected"), [("hard", NotebookWaitTimedOut), ("soft", AirflowSkipException)], ids=str
)
def test_the_end_of_execution_timeout_is_named_and_retried_as_in_a_worker(
    losant: Emulator, notebook: str, flag: str, expected: type[Exception]
) -> None:
    losant.script(notebook, Script(ending="hang"))
    execution = LosantHook().execute_notebook(notebook)
    options: dict[str, Any] = {"deferrable": True, "execution_timeout": timedelta(seconds=0.3), **FLAGS[flag]}

    with pytest.raises(expected, match=r"within execution_timeout \(0\.3 s\)") as caught:
        run(lambda: sensor(notebook, execution, **options))

    assert not isinstance(caught.value, AirflowSensorTimeout | AirflowFailException)
    assert {it.operation for it in losant.requests} == {"notebook.execute", "notebook.logs"}


@pytest.mark.airflow(since="3.0")  # before, Airflow does not say that it was a timeout
@pytest.mark.parametrize(("allowed", "is_retried"), [(30, True), (600, False), (None, False)], ids=str)
def test_a_deferral_that_airflow_ended_at_execution_timeout_is_retried(
    notebook: str, *, allowed: float | None, is_retried: bool
) -> None:
    limit = None if allowed is None else timedelta(seconds=allowed)
    one = sensor(notebook, "0" * 24, deferrable=True, timeout=100, execution_timeout=limit)

    with pytest.raises(NotebookWaitTimedOut if is_retried else AirflowSensorTimeout) as caught:
        one.resume_execution(TRIGGER_FAILED, {"error": "Trigger timeout"}, context_of(Ti()))

    assert isinstance(caught.value, AirflowSensorTimeout) is not is_retried


def test_a_shorter_timeout_comes_first_and_is_not_retried(losant: Emulator, notebook: str) -> None:
    losant.script(notebook, Script(ending="hang"))
    execution = LosantHook().execute_notebook(notebook)
    options: dict[str, Any] = {"deferrable": True, "execution_timeout": timedelta(seconds=30), "timeout": 0.2}

    with pytest.raises(AirflowSensorTimeout, match=r"within timeout \(0\.2 s\)"):
        run(lambda: sensor(notebook, execution, **options))


def test_a_retry_gets_the_whole_execution_timeout_again(losant: Emulator, notebook: str) -> None:
    losant.script(notebook, Script(ending="hang"))
    execution = LosantHook().execute_notebook(notebook)
    options: dict[str, Any] = {"execution": execution, "execution_timeout": timedelta(seconds=30)}
    retry = Ti(try_number=2, max_tries=1)
    time.sleep(0.01)

    _, first = stored(notebook, Ti(start_date=retry.start_date - timedelta(seconds=60)), **options)
    _, second = stored(notebook, retry, **options)

    assert second["deadline"] - first["deadline"] == pytest.approx(60, abs=0.01)


@pytest.mark.airflow(since="3.3")
def test_a_sensor_that_starts_in_the_triggerer_waits_no_longer_than_execution_timeout(notebook: str) -> None:
    allowed = timedelta(seconds=30)
    one = sensor(
        notebook, "0" * 24, deferrable=True, start_from_trigger=True, execution_timeout=allowed, timeout=600
    )

    assert one.start_trigger_args is not None
    assert json.loads(json.dumps(one.start_trigger_args.trigger_kwargs))["timeout"] == 30


@pytest.mark.timeout(60, method="thread")  # Airflow uses the signal by which pytest-timeout works otherwise
@pytest.mark.parametrize(
    ("flag", "expected"),
    [("hard", AirflowTaskTimeout), ("soft", AirflowSkipException), ("never", AirflowSkipException)],
    ids=str,
)
def test_execution_timeout_in_a_worker_skips_a_sensor_that_may_be_skipped(
    losant: Emulator, notebook: str, flag: str, expected: type[BaseException]
) -> None:
    losant.script(notebook, Script(ending="hang"))
    one = sensor(
        notebook, LosantHook().execute_notebook(notebook), poke_interval=30, timeout=60, **FLAGS[flag]
    )

    with pytest.raises(expected), task_timeout(1):
        one.execute(context_of(Ti()))


def task_timeout(seconds: float) -> Any:
    """Return Airflow's context manager that ends a task after its ``execution_timeout``."""
    try:
        module = import_module("airflow.sdk.execution_time.timeout")
    except ImportError:  # before Airflow 3.1
        module = import_module("airflow.utils.timeout")
    return module.timeout(seconds)
