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
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from tests.provider.conftest import set_connection
from tests.provider.tasks import Task, Ti, context_of
from tests.support.factories import BRIEF

pytestmark = pytest.mark.usefixtures("losant_connection")

MODES: dict[str, dict[str, Any]] = {"poke": {}, "deferred": {"deferrable": True}}
ALL_MODES = pytest.mark.parametrize("mode", MODES)
"""Rescheduling needs a scheduler; test_in_process.py tests it."""

A_YEAR_AGO = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=365)
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


# -- executions chosen by status and template context -----------------------------------------------------


@ALL_MODES
def test_a_sensor_waits_for_an_execution_with_the_wanted_context(
    losant: Emulator, notebook: str, mode: str
) -> None:
    losant.script(notebook, Script(notebook=0.1))
    LosantHook().execute_notebook(notebook, template_context={"site": "south"})
    LosantHook().execute_notebook(notebook)
    expected = LosantHook().execute_notebook(notebook, template_context={"site": "north", "day": 1})
    one = sensor(notebook, mode, since=A_YEAR_AGO, context_contains={"site": "north"})

    assert one.run()["execution_id"] == expected
    assert len(one.deferrals) == (mode == "deferred")


@ALL_MODES
@pytest.mark.parametrize("given", ['{"airflow": {"task_id": "report"}}', {"airflow": {"task_id": "report"}}])
def test_a_sensor_finds_the_execution_of_a_task_by_its_marker(
    losant: Emulator, notebook: str, mode: str, given: Any
) -> None:
    LosantHook().execute_notebook(notebook)
    submit = LosantNotebookExecuteOperator(task_id="report", notebook_id=notebook, wait_for_completion=False)
    expected = submit.execute(context_of(Ti()))["execution_id"]
    LosantHook().execute_notebook(notebook)

    assert sensor(notebook, mode, since=A_YEAR_AGO, context_contains=given).run()["execution_id"] == expected


@ALL_MODES
def test_with_statuses_a_sensor_passes_over_executions_that_end_otherwise(
    losant: Emulator, notebook: str, start: Callable[[], str], mode: str
) -> None:
    losant.script(notebook, FAILING)
    start()
    losant.script(notebook, Script(notebook=0.15))
    expected = start()

    result = sensor(notebook, mode, since=A_YEAR_AGO, statuses=("completed",)).run()

    assert result["execution_id"] == expected


@ALL_MODES
def test_a_chosen_execution_that_did_not_complete_still_fails_the_sensor(
    losant: Emulator, notebook: str, start: Callable[[], str], mode: str
) -> None:
    losant.script(notebook, FAILING)
    execution = start()

    with pytest.raises(AirflowFailException, match=f"ended with status errored.*{execution}"):
        sensor(notebook, mode, since=A_YEAR_AGO, statuses=["errored", "completed"]).run()


@ALL_MODES
def test_without_a_wanted_execution_the_sensor_times_out(
    notebook: str, start: Callable[[], str], mode: str
) -> None:
    start()
    time.sleep(0.05)

    with pytest.raises(AirflowSensorTimeout):
        sensor(notebook, mode, since=A_YEAR_AGO, context_contains={"site": "north"}, timeout=0.15).run()


CHOICES: dict[str, dict[str, Any]] = {
    "since": {"since": A_YEAR_AGO},
    "text": {"since": "2026-01-01"},
    "milliseconds": {"since": 1767225600000},
    "context": {"context_contains": {"site": "{{ params.site }}"}},
    "statuses": {"statuses": ["completed"]},
    "all": {"since": A_YEAR_AGO, "statuses": ["completed"], "context_contains": '{"a": 1}'},
}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_an_execution_id_beside_a_choice_is_refused_when_the_dag_is_parsed(choice: dict[str, Any]) -> None:
    names = " and ".join(choice)

    with pytest.raises(LosantConfigError, match=f"execution_id: names one execution, so {names} cannot be"):
        sensor("0" * 24, execution_id="0" * 24, **choice).make()


@ALL_MODES
@pytest.mark.parametrize("choice", [CHOICES["since"], CHOICES["context"], CHOICES["statuses"]], ids=str)
def test_an_execution_id_beside_a_choice_is_refused_when_both_have_been_rendered(
    losant: Emulator, notebook: str, mode: str, choice: dict[str, Any]
) -> None:
    def make() -> LosantNotebookExecutionSensor:
        one = sensor(notebook, mode, execution_id="{{ params.id }}", **choice).make()
        one.execution_id = "0" * 24  # as Airflow renders it
        return one  # type: ignore[no-any-return]  # a task makes any operator

    with pytest.raises(LosantConfigError, match="execution_id: names one execution, so "):
        Task(make).run()

    assert losant.requests == []


EMPTY: dict[str, dict[str, Any]] = {
    "nothing": {},
    "texts": {"since": "", "context_contains": " "},
    "objects": {"since": None, "context_contains": {}},
    "JSON": {"context_contains": ""},
}


@ALL_MODES
@pytest.mark.parametrize("empty", EMPTY.values(), ids=EMPTY)
def test_arguments_that_render_empty_count_as_not_given(
    notebook: str, start: Callable[[], str], mode: str, empty: dict[str, Any]
) -> None:
    execution = start()

    assert sensor(notebook, mode, execution_id=execution, **empty).run()["execution_id"] == execution
    chosen = sensor(notebook, mode, execution_id="", since=A_YEAR_AGO, context_contains={})
    assert chosen.run()["execution_id"] == execution


@ALL_MODES
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"context_contains": "north"}, "context_contains: is not JSON"),
        ({"context_contains": ["north"]}, "context_contains: "),
        ({"context_contains": {"at": b"x"}}, 'context_contains["at"]: a bytes is not JSON'),
        ({"statuses": "completed"}, "statuses: 'completed' is not a list of some of completed, errored"),
        ({"statuses": ["done"]}, "statuses: ['done'] is not a list"),
        ({"statuses": []}, "statuses: [] is not a list"),
        ({"max_log_lag": 0}, "max_log_lag: 0 is not a positive number of seconds"),
    ],
    ids=str,
)
def test_an_invalid_choice_is_named_before_any_request(
    losant: Emulator, notebook: str, mode: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(LosantConfigError) as caught:
        sensor(notebook, mode, since=A_YEAR_AGO, **options).run()

    assert str(caught.value).startswith(says)
    assert losant.requests == []


# -- executions that do not exist -------------------------------------------------------------------------


@ALL_MODES
@pytest.mark.parametrize("soft_fail", [False, True], ids=["hard", "soft"])
def test_an_execution_that_does_not_exist_fails_the_sensor_without_retry(
    losant: Emulator, notebook: str, start: Callable[[], str], mode: str, soft_fail: bool
) -> None:
    start()
    expected = AirflowSkipException if soft_fail else AirflowFailException
    # What Airflow says about a skipped sensor depends on its mode.
    says = None if soft_fail else r"The execution does not exist: the complete .* check execution_id"

    with pytest.raises(expected, match=says):
        sensor(notebook, mode, execution_id="1" * 24, timeout=3_600, soft_fail=soft_fail).run()


@ALL_MODES
def test_an_execution_of_another_notebook_does_not_exist_in_this_one(
    losant: Emulator, notebook: str, start: Callable[[], str], mode: str
) -> None:
    other = losant.add_notebook("Other")
    execution = start()

    with pytest.raises(AirflowFailException, match="The execution does not exist"):
        sensor(other, mode, execution_id=execution, max_log_lag=0.5, timeout=3_600).run()


@ALL_MODES
def test_an_incomplete_log_does_not_show_that_an_execution_does_not_exist(
    losant: Emulator, notebook: str, start: Callable[[], str], mode: str
) -> None:
    losant.switches.max_limit = 20
    for _ in range(21):
        start()

    with pytest.raises(AirflowSensorTimeout):
        sensor(notebook, mode, execution_id="1" * 24, timeout=0.3).run()


@ALL_MODES
def test_a_new_execution_may_be_missing_in_the_log_for_a_while(
    losant: Emulator, notebook: str, start: Callable[[], str], mode: str
) -> None:
    losant.switches.listing_lag = 1.5

    assert sensor(notebook, mode, execution_id=start()).run()["status"] == "completed"


@pytest.mark.parametrize("deferrable", [False, True])
def test_an_operator_does_not_end_because_its_execution_is_missing_in_the_log(
    losant: Emulator, notebook: str, deferrable: bool
) -> None:
    losant.switches.listing_lag = 2.0
    task = Task(
        lambda: LosantNotebookExecuteOperator(
            task_id="report",
            notebook_id=notebook,
            deferrable=deferrable,
            poll_interval=0.05,
            max_log_lag=0.01,
        )
    )

    assert task.run()["status"] == "completed"
