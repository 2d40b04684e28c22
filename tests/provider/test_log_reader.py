# SPDX-License-Identifier: Apache-2.0
"""A task and its execution in a log that is long, cut off, or has entries of an odd shape."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_losant.api.errors import ExecutionNotFound, LogIncomplete
from airflow_provider_losant.emulator import Emulator, Fault, Script
from airflow_provider_losant.emulator.state.identity import object_id
from airflow_provider_losant.emulator.state.timeline import Execution
from airflow_provider_losant.exceptions import NotebookExecutionError
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.operators.sweep import LosantNotebookOrphanSweepOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from tests.provider.conftest import TaskLog, operations
from tests.provider.tasks import BOTH_MODES, Task, Ti, context_of

pytestmark = pytest.mark.usefixtures("losant_connection")

STARTED = datetime.now(UTC)
ENDLESS = Script(ending="hang")
QUEUED = Script(queue=2.0, notebook=0.02)
ODD: list[Any] = [
    {"status": "completed", "templateContext": "{}"},
    "not an object",
    None,
    {"id": 7, "status": "queued"},
    {"id": "no id", "status": ["queued"]},
    {"id": "f" * 24, "applicationId": 1, "status": "completed", "executionErrors": ["boom"]},
    {"id": "e" * 24, "status": "completed", "outputInfo": {"a.csv": {"size": "7 bytes"}}},
    {"id": "d" * 24, "status": "completed", "runQueuedAt": "yesterday"},
    {"id": "0" * 24, "status": "completed", "runQueuedAt": "0001-01-01T00:00:00+14:00"},
]


def operator(notebook: str, **options: Any) -> Any:
    settings = {"poll_interval": 0.02, "max_log_lag": 0.05} | options
    return LosantNotebookExecuteOperator(task_id="report", notebook_id=notebook, **settings)


def first_try(notebook: str) -> str:
    """Submit an execution as a first try whose worker then dies; return the execution's id."""
    return str(
        operator(notebook, wait_for_completion=False).execute(context_of(Ti(start_date=STARTED)))[
            "execution_id"
        ]
    )


def retry(notebook: str, **options: Any) -> Any:
    """Run the second try to its end."""
    return Task(lambda: operator(notebook, **options), Ti(try_number=2, start_date=STARTED)).run()


def add_newer(losant: Emulator, notebook: str, count: int) -> None:
    """Add newer executions of another client to a notebook's log."""
    now = time.time()
    for _ in range(count):
        execution = Execution(
            id=object_id(now),
            notebook_id=notebook,
            application_id=losant.application_id,
            queued_at=now,
            relative_to=now,
            max_minutes=5,
            image_version="v4",
            source_id="a" * 24,
        )
        losant.backend.put(replace(execution.apply(Script(notebook=0)), ended_at=now))


def limits(losant: Emulator) -> list[int]:
    return [int(it.query["limit"]) for it in losant.requests if it.operation == "notebook.logs"]


@BOTH_MODES
def test_a_retry_reconnects_however_long_the_log_is(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    submitted = first_try(notebook)
    add_newer(losant, notebook, 1_200)

    assert retry(notebook, deferrable=deferrable)["execution_id"] == submitted
    assert operations(losant).count("notebook.execute") == 1


@BOTH_MODES
def test_a_retry_reconnects_although_losant_refuses_long_logs(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    losant.switches.refuse_limit_above = 200
    submitted = first_try(notebook)
    add_newer(losant, notebook, 150)

    assert retry(notebook, deferrable=deferrable)["execution_id"] == submitted
    assert operations(losant).count("notebook.execute") == 1


def test_a_retry_reconnects_if_the_execution_is_among_those_that_losant_returns(
    losant: Emulator, notebook: str
) -> None:
    losant.switches.max_limit = 100
    submitted = first_try(notebook)
    add_newer(losant, notebook, 99)

    assert retry(notebook)["execution_id"] == submitted


@BOTH_MODES
def test_a_retry_submits_nothing_if_the_log_may_hide_the_execution(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    losant.switches.max_limit = 100
    submitted = first_try(notebook)
    add_newer(losant, notebook, 100)

    with pytest.raises(
        NotebookExecutionError,
        match=r"could not be read back to .*: Losant returned only its latest 100 entries; "
        r"whether Losant runs notebook \w+ of application \w+ is unknown, a retry searches again",
    ):
        retry(notebook, deferrable=deferrable)

    assert operations(losant).count("notebook.execute") == 1
    losant.switches.max_limit = None
    assert retry(notebook, deferrable=deferrable)["execution_id"] == submitted


@BOTH_MODES
@pytest.mark.parametrize("max_limit", [None, 50], ids=["50 entries in all", "50 returned of 60"])
def test_a_retry_submits_if_the_log_hides_only_executions_from_before_its_dag_run(
    losant: Emulator, notebook: str, max_limit: int | None, *, deferrable: bool
) -> None:
    losant.switches.max_limit = max_limit
    add_newer(losant, notebook, 50 if max_limit is None else 60)
    before = len(losant.executions(notebook))

    for minutes, is_later in ((59, False), (61, True)):
        ti = Ti(try_number=2, dag_run_start=datetime.now(UTC) + timedelta(minutes=minutes))
        task = Task(lambda: operator(notebook, deferrable=deferrable), ti)
        with nullcontext() if is_later else pytest.raises(NotebookExecutionError, match="returned only its"):
            assert task.run()["status"] == "completed"
        assert len(losant.executions(notebook)) == before + is_later


@pytest.mark.parametrize("if_running", ["wait", "fail"])
def test_executions_of_others_may_be_hidden_also_from_before_the_dag_run(
    losant: Emulator, notebook: str, if_running: str
) -> None:
    add_newer(losant, notebook, 50)

    ti = Ti(dag_run_start=datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(NotebookExecutionError, match="returned only its latest 50 entries"):
        Task(lambda: operator(notebook, if_running=if_running), ti).run()

    assert len(losant.executions(notebook)) == 50


def test_a_lost_submission_is_not_repeated_if_the_log_may_hide_it(losant: Emulator, notebook: str) -> None:
    losant.switches.max_limit = 50
    add_newer(losant, notebook, 60)
    losant.inject("notebook.execute", Fault("reset_before"))

    with pytest.raises(NotebookExecutionError, match="a retry searches again"):
        operator(notebook).execute(context_of(Ti(start_date=STARTED)))

    assert operations(losant).count("notebook.execute") == 1


def test_a_lost_submission_is_found_in_a_log_that_is_cut_off(losant: Emulator, notebook: str) -> None:
    losant.switches.max_limit = 50
    add_newer(losant, notebook, 60)
    losant.inject("notebook.execute", Fault("reset_after"))

    assert operator(notebook).execute(context_of(Ti(start_date=STARTED)))["status"] == "completed"
    assert operations(losant).count("notebook.execute") == 1


@pytest.mark.parametrize("is_lost", [True, False], ids=["lost response", "retry"])
def test_a_queued_execution_is_found_although_since_refers_to_the_start(
    losant: Emulator, notebook: str, *, is_lost: bool
) -> None:
    losant.script(notebook, QUEUED)
    losant.switches.since_field = "started"
    if is_lost:
        losant.inject("notebook.execute", Fault("reset_after"))
        result = operator(notebook).execute(context_of(Ti(start_date=STARTED)))
    else:
        first_try(notebook)
        result = retry(notebook)

    assert result["status"] == "completed"
    assert operations(losant).count("notebook.execute") == 1
    assert len(losant.executions(notebook)) == 1


@BOTH_MODES
def test_an_odd_entry_in_the_log_has_no_effect_on_a_task(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    submitted = first_try(notebook)
    for entry in ODD:
        losant.add_log_entry(notebook, entry)

    assert retry(notebook, deferrable=deferrable, if_running="fail")["execution_id"] == submitted


def test_an_odd_entry_does_not_hide_a_lost_submission(losant: Emulator, notebook: str) -> None:
    for entry in ODD:
        losant.add_log_entry(notebook, entry)
    losant.inject("notebook.execute", Fault("reset_after"))

    result = operator(notebook, if_running="fail").execute(context_of(Ti(start_date=STARTED)))

    assert result["status"] == "completed"
    assert operations(losant).count("notebook.execute") == 1


@BOTH_MODES
def test_a_sensor_skips_an_odd_entry(
    losant: Emulator, notebook: str, task_log: TaskLog, *, deferrable: bool
) -> None:
    since = time.time() - 1
    submitted = first_try(notebook)
    for entry in ODD:
        losant.add_log_entry(notebook, entry)
    sensor: dict[str, Any] = {
        "task_id": "await",
        "notebook_id": notebook,
        "since": round(since * 1000),
        "poke_interval": 0.05,
    }

    Task(lambda: LosantNotebookExecutionSensor(**sensor, timeout=10, deferrable=deferrable)).run()

    assert submitted in json.dumps(losant.executions(notebook))
    assert f"Ignoring execution {'f' * 24} of notebook {notebook}" in task_log()


def test_the_hook_finds_an_old_execution_in_a_long_log(losant: Emulator, notebook: str) -> None:
    submitted = first_try(notebook)
    add_newer(losant, notebook, 1_200)
    losant.clear_requests()

    assert LosantHook().get_execution(notebook, submitted).ref.execution_id == submitted
    assert limits(losant) == [20, 160, 1_280]
    latest = losant.executions(notebook)[0]["id"]
    losant.clear_requests()
    LosantHook().get_execution(notebook, latest)
    assert limits(losant) == [20]


def test_the_hook_says_whether_an_execution_does_not_exist_or_may_be_hidden(
    losant: Emulator, notebook: str
) -> None:
    submitted = first_try(notebook)
    add_newer(losant, notebook, 100)
    with pytest.raises(
        ExecutionNotFound, match=r"^The execution log of notebook \w+ does not list execution "
    ):
        LosantHook().get_execution(notebook, object_id(time.time() - 100))
    losant.switches.max_limit = 100

    with pytest.raises(LogIncomplete, match="could not be read back to"):
        LosantHook().get_execution(notebook, submitted)


def test_the_hook_lists_what_it_can_read(losant: Emulator, notebook: str) -> None:
    submitted = first_try(notebook)
    for entry in ODD:
        losant.add_log_entry(notebook, entry)

    assert [it.ref.execution_id for it in LosantHook().get_execution_logs(notebook)] == [submitted]


def test_the_sweep_reports_a_log_that_is_cut_off_but_handles_what_it_saw(
    losant: Emulator, notebook: str
) -> None:
    losant.switches.max_limit = 100
    add_newer(losant, notebook, 110)
    losant.script(notebook, ENDLESS)
    LosantHook().execute_notebook(notebook)
    for entry in ODD:
        losant.add_log_entry(notebook, entry)

    report = LosantNotebookOrphanSweepOperator(task_id="sweep", min_age=1e-6).execute({})

    assert report["left"] == {"not submitted by Airflow": 1}
    assert report["incomplete"] == [notebook]
