# SPDX-License-Identifier: Apache-2.0
"""The sensor: equal in poke, reschedule and deferrable mode, with an execution id and without."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_losant.emulator import Emulator, Fault, Script
from airflow_provider_losant.exceptions import LosantConfigError
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from tests.provider.conftest import set_connection
from tests.provider.tasks import Task, Ti, context_of
from tests.support.factories import BRIEF

pytestmark = pytest.mark.usefixtures("losant_connection")

MODES: dict[str, dict[str, Any]] = {"poke": {}, "deferred": {"deferrable": True}}
ALL_MODES = pytest.mark.parametrize("mode", MODES)
"""Rescheduling needs a scheduler; test_in_process.py tests it."""

A_YEAR_AGO = datetime.now(UTC) - timedelta(days=365)
FAILING = Script(notebook=0.04, ending="errored", errors=(("ValueError", "boom"),))


def sensor(notebook: Any, mode: str = "poke", **options: Any) -> Task:
    given = {"task_id": "await", "notebook_id": notebook, "poke_interval": 0.02, "timeout": 20.0}
    return Task(lambda: LosantNotebookExecutionSensor(**{**given, **MODES[mode], **options}))


@pytest.fixture
def start(notebook: str) -> Callable[[], str]:
    return lambda: LosantHook().execute_notebook(notebook)


@ALL_MODES
def test_the_sensor_waits_for_the_execution_and_returns_its_result(
    losant: Emulator, notebook: str, start: Callable[[], str], mode: str
) -> None:
    losant.script(notebook, Script(notebook=0.1, files=BRIEF.files))
    execution = start()
    one = sensor(notebook, mode, execution_id=execution)

    result = one.run()

    assert (result["execution_id"], result["status"]) == (execution, "completed")
    assert sorted(result["outputs"]) == ["out.csv", "result.html"]
    assert len(one.deferrals) == (mode == "deferred")
    assert one.ti.pushed == {"losant_notebook_link": result["url"]}


def test_both_modes_return_the_same_result(notebook: str, start: Callable[[], str]) -> None:
    execution = start()
    results = [sensor(notebook, mode, execution_id=execution).run() for mode in MODES]

    assert results[0] == results[1]


def test_the_sensor_does_not_defer_for_an_ended_execution(notebook: str, start: Callable[[], str]) -> None:
    execution = start()
    time.sleep(0.05)
    one = sensor(notebook, "deferred", execution_id=execution)

    assert one.run()["status"] == "completed"
    assert one.deferrals == []


@ALL_MODES
def test_an_execution_is_found_by_its_id_in_capitals(
    notebook: str, start: Callable[[], str], mode: str
) -> None:
    assert sensor(notebook, mode, execution_id=start().upper()).run()["status"] == "completed"


def test_a_wait_for_an_id_in_capitals_has_an_end_too(
    losant: Emulator, start: Callable[[], str], notebook: str
) -> None:
    losant.script(notebook, Script(ending="hang"))

    with pytest.raises(AirflowSensorTimeout):
        resumed(sensor(notebook, "deferred", execution_id=start().upper(), timeout=0.1))


@ALL_MODES
def test_without_an_id_the_first_queued_since_that_ended_is_selected(
    losant: Emulator, notebook: str, start: Callable[[], str], mode: str
) -> None:
    before = start()
    time.sleep(0.04)
    since = datetime.now(UTC)
    losant.script(notebook, Script(ending="hang"))
    start()
    losant.script(notebook, Script(notebook=0.1))
    first, second = start(), start()

    result = sensor(notebook, mode, since=since).run()

    assert result["execution_id"] == first
    assert result["execution_id"] not in {before, second}


@ALL_MODES
def test_without_an_id_the_sensor_waits_for_a_later_execution(
    losant: Emulator, notebook: str, start: Callable[[], str], mode: str
) -> None:
    losant.script(notebook, Script(notebook=0.15))
    earlier = LosantHook().get_execution(notebook, start())
    time.sleep(0.01)
    expected = start()
    since = earlier.queued_at + timedelta(milliseconds=1) if earlier.queued_at else None

    assert sensor(notebook, mode, since=since and since.isoformat()).run()["execution_id"] == expected


@ALL_MODES
def test_an_unsuccessful_execution_fails_the_sensor_without_retry(
    losant: Emulator, notebook: str, start: Callable[[], str], mode: str
) -> None:
    losant.script(notebook, FAILING)
    execution = start()

    with pytest.raises(
        AirflowFailException, match=f"ended with status errored.*ValueError: boom .*{execution}"
    ):
        sensor(notebook, mode, execution_id=execution).run()


@ALL_MODES
def test_an_execution_that_the_token_may_not_read_fails_the_sensor_without_retry(
    start: Callable[[], str], mode: str
) -> None:
    execution = start()

    with pytest.raises(
        AirflowFailException, match=r"denied access to the notebook.s execution log: .*404"
    ) as caught:
        sensor("0" * 24, mode, execution_id=execution).run()

    assert "retry" not in str(caught.value)


@ALL_MODES
@pytest.mark.parametrize("status", ["reset_before", "server_error", "html", "truncated", "rate_limited"])
def test_a_failed_poll_does_not_fail_the_sensor(
    losant: Emulator, notebook: str, start: Callable[[], str], mode: str, status: Any
) -> None:
    execution = start()
    losant.inject("notebook.logs", Fault(status), times=2)

    assert sensor(notebook, mode, execution_id=execution).run()["status"] == "completed"


@ALL_MODES
@pytest.mark.parametrize("soft_fail", [False, True], ids=["hard", "soft"])
def test_a_wait_that_lasts_too_long_times_out_and_cancels_nothing(
    losant: Emulator, notebook: str, start: Callable[[], str], mode: str, soft_fail: bool
) -> None:
    losant.script(notebook, Script(ending="hang"))
    execution = start()
    # Airflow itself skips a deferred sensor, before it calls execute_complete.
    expected = AirflowSkipException if soft_fail and mode == "poke" else AirflowSensorTimeout

    with pytest.raises(expected):
        sensor(notebook, mode, execution_id=execution, timeout=0.15, soft_fail=soft_fail).run()

    assert {it.operation for it in losant.requests} == {"notebook.execute", "notebook.logs"}
    assert losant.executions(notebook)[0]["status"] == "inProgress"


def resumed(one: Task) -> Any:
    """Resume a deferred task as Airflow does."""
    from tests.provider.tasks import fire

    with pytest.raises(TaskDeferred) as deferral:
        one.make().execute(context_of(one.ti))
    event = {"event": fire(deferral.value.trigger)}
    return one.make().resume_execution(deferral.value.method_name, event, context_of(one.ti))


@pytest.mark.parametrize(
    ("script", "options"),
    [(FAILING, {}), (Script(ending="hang"), {"timeout": 0.15})],
    ids=["errored", "too long"],
)
def test_a_soft_fail_sensor_is_skipped_when_resumed_too(
    losant: Emulator, notebook: str, start: Callable[[], str], script: Script, options: dict[str, Any]
) -> None:
    losant.script(notebook, script)
    execution = start()

    with pytest.raises(AirflowSkipException):
        resumed(sensor(notebook, "deferred", execution_id=execution, soft_fail=True, **options))


@ALL_MODES
def test_a_soft_fail_sensor_is_skipped_when_the_execution_had_failed_already(
    losant: Emulator, notebook: str, start: Callable[[], str], mode: str
) -> None:
    losant.script(notebook, FAILING)
    execution = start()
    time.sleep(0.05)

    with pytest.raises(AirflowSkipException):
        sensor(notebook, mode, execution_id=execution, soft_fail=True).run()


def test_an_execution_with_many_newer_ones_is_found_by_a_poke(
    losant: Emulator, notebook: str, start: Callable[[], str]
) -> None:
    execution = start()
    for _ in range(25):
        start()

    assert sensor(notebook, execution_id=execution).run()["execution_id"] == execution


@ALL_MODES
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"notebook": "mine", "execution_id": "0" * 24}, "notebook_id: 'mine' is not a Losant id"),
        ({"execution_id": "latest"}, "execution_id: 'latest' is not a Losant id"),
        ({"execution_id": ""}, "execution_id: is missing"),
        ({}, "execution_id: is missing, and so is since"),
        ({"since": "yesterday"}, "since: 'yesterday' is not a timestamp"),
        ({"since": 1767225600}, "since: 1767225600 is too small"),
        ({"execution_id": "0" * 24, "application_id": "mine"}, "application_id: 'mine' is not a Losant id"),
    ],
    ids=str,
)
def test_an_invalid_argument_is_named_before_any_request(
    losant: Emulator, notebook: str, mode: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(LosantConfigError) as caught:
        sensor(**{"notebook": notebook, "mode": mode, **options}).run()

    assert str(caught.value).startswith(says)
    assert losant.requests == []


@ALL_MODES
def test_a_token_that_may_not_poll_fails_the_sensor_without_retry(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    set_connection(monkeypatch, losant, password=losant.add_token(["notebook.execute"]))

    with pytest.raises(AirflowFailException, match=r"needs the scope notebook\.logs"):
        sensor(notebook, mode, execution_id="0" * 24).run()


def test_a_deferral_has_a_timeout_after_the_providers_own_deadline(losant: Emulator, notebook: str) -> None:
    losant.script(notebook, Script(ending="hang"))
    execution = LosantHook().execute_notebook(notebook)

    with pytest.raises(TaskDeferred) as deferral:
        sensor(notebook, "deferred", execution_id=execution, timeout=100).make().execute(context_of(Ti()))

    assert deferral.value.timeout is not None
    assert timedelta(seconds=200) < deferral.value.timeout < timedelta(seconds=260)
    assert deferral.value.trigger.serialize()[1]["cancel_on_kill"] is False


def test_without_an_id_an_event_of_another_notebook_is_refused(
    losant: Emulator, notebook: str, start: Callable[[], str]
) -> None:
    other = losant.add_notebook("Other")
    losant.script(other, BRIEF)
    LosantHook().execute_notebook(other)
    time.sleep(0.05)
    event = sensor(other, since=A_YEAR_AGO).run()
    expected = start()
    time.sleep(0.05)
    outcome = {"ending": "ended", "is_success": True, "result": event}

    result = sensor(notebook, since=A_YEAR_AGO).make().execute_complete(context_of(Ti()), outcome)

    assert result["execution_id"] == expected


def test_a_foreign_event_is_refused(notebook: str) -> None:
    with pytest.raises(ValueError, match="not the event of a notebook wait"):
        sensor(notebook, execution_id="0" * 24).make().execute_complete(context_of(Ti()), {})
