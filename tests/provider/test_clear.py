# SPDX-License-Identifier: Apache-2.0
"""A cleared or late task: a new execution, or that of an earlier try."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_losant._compat import AIRFLOW_3
from airflow_provider_losant.emulator import Script
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.provider.conftest import cancels, operations, statuses
from tests.provider.tasks import BOTH_MODES, DAG_RUN_START, Task, Ti, context_of
from tests.support.factories import BRIEF
from tests.support.processes import wait_for

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator
    from tests.provider.conftest import TaskLog

pytestmark = pytest.mark.usefixtures("losant_connection")

BASE_URL_VARIABLE = f"AIRFLOW__{'API' if AIRFLOW_3 else 'WEBSERVER'}__BASE_URL"
SETTING = pytest.mark.parametrize("is_on", [True, False], ids=["reconnects", "default"])
WARNING = "reconnect_after_clear: without Airflow's [api] base_url"


@pytest.fixture
def base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure the address of this Airflow."""
    monkeypatch.setenv(BASE_URL_VARIABLE, "https://airflow.example")


@pytest.fixture(params=["task", "dag run"])
def cleared(request: pytest.FixtureRequest) -> Ti:
    """Return a task instance after its first try, cleared alone or after the end of its DAG run."""
    later = timedelta(minutes=5) if request.param == "dag run" else timedelta()
    return Ti(try_number=2, max_tries=1, dag_run_start=DAG_RUN_START + later)


def task(notebook: str, ti: Ti, **options: Any) -> Task:
    given = {"poll_interval": 0.02, "max_log_lag": 0.1, **options}
    return Task(lambda: LosantNotebookExecuteOperator(task_id="report", notebook_id=notebook, **given), ti)


def submit(losant: Emulator, notebook: str, script: Script, ti: Ti | None = None) -> str:
    """Submit an execution by the first try, which then loses contact with Airflow; returns its id."""
    losant.script(notebook, script)
    ti = ti or Ti()
    with pytest.raises(TaskDeferred):
        task(notebook, ti, deferrable=True).make().execute(context_of(ti))
    return str(ti.pushed["execution_id"])


@pytest.mark.usefixtures("base_url")
@BOTH_MODES
@SETTING
def test_a_cleared_task_takes_a_completed_execution_only_when_asked_to(
    losant: Emulator, notebook: str, cleared: Ti, *, deferrable: bool, is_on: bool
) -> None:
    before = task(notebook, Ti()).run()["execution_id"]

    result = task(notebook, cleared, deferrable=deferrable, reconnect_after_clear=is_on).run()

    assert (result["execution_id"] == before) == is_on
    assert result["status"] == "completed"
    assert len(losant.executions(notebook)) == (1 if is_on else 2)


@pytest.mark.usefixtures("base_url")
@BOTH_MODES
@SETTING
def test_a_cleared_task_takes_an_active_execution_when_asked_to_and_otherwise_cancels_it(
    losant: Emulator, notebook: str, cleared: Ti, *, deferrable: bool, is_on: bool
) -> None:
    before = submit(losant, notebook, Script(notebook=1.0))
    if not is_on:
        losant.script(notebook, BRIEF)

    one = task(notebook, cleared, deferrable=deferrable, reconnect_after_clear=is_on)
    result = one.run()

    assert statuses(losant, notebook) == (
        {before: "completed"} if is_on else {result["execution_id"]: "completed", before: "canceled"}
    )
    assert cancels(losant) == (not is_on)
    assert len(one.deferrals) == deferrable


@pytest.mark.usefixtures("base_url")
def test_a_cleared_task_does_not_take_an_execution_that_has_failed(
    losant: Emulator, notebook: str, cleared: Ti
) -> None:
    failed = submit(losant, notebook, Script(notebook=0.01, ending="errored"))
    wait_for(lambda: statuses(losant, notebook)[failed] == "errored", what="its end", timeout=10, every=0.02)
    losant.script(notebook, BRIEF)

    result = task(notebook, cleared, reconnect_after_clear=True).run()

    assert statuses(losant, notebook) == {result["execution_id"]: "completed", failed: "errored"}


@pytest.mark.usefixtures("base_url")
def test_a_cleared_task_takes_the_latest_execution_and_no_earlier_one(
    losant: Emulator, notebook: str
) -> None:
    task(notebook, Ti()).run()
    second = task(notebook, Ti(try_number=2, max_tries=1)).run()["execution_id"]

    third = task(notebook, Ti(try_number=3, max_tries=2), reconnect_after_clear=True).run()["execution_id"]

    assert third == second
    assert operations(losant).count("notebook.execute") == 2


@pytest.mark.usefixtures("base_url")
def test_a_retry_of_a_cleared_task_takes_the_same_execution(
    losant: Emulator, notebook: str, cleared: Ti
) -> None:
    before = submit(losant, notebook, Script(notebook=1.0))
    cleared.max_tries = 2
    with pytest.raises(TaskDeferred):
        task(notebook, cleared, deferrable=True, reconnect_after_clear=True).make().execute(
            context_of(cleared)
        )
    retry = Ti(try_number=3, max_tries=2, dag_run_start=cleared.dag_run_start)

    assert task(notebook, retry, reconnect_after_clear=True).run()["execution_id"] == before
    assert statuses(losant, notebook) == {before: "completed"}


@BOTH_MODES
def test_the_setting_changes_nothing_in_the_template_context(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    for is_on in (False, True):
        task(
            notebook,
            Ti(),
            deferrable=deferrable,
            reconnect_after_clear=is_on,
            template_context={"site": "north"},
        ).run()

    first, second = [json.loads(it["templateContext"]) for it in losant.executions(notebook)]
    assert first == second
    assert first["site"] == "north"


def test_without_a_base_url_a_task_cleared_within_its_dag_run_still_reconnects(
    losant: Emulator, notebook: str, task_log: TaskLog
) -> None:
    before = task(notebook, Ti()).run()["execution_id"]

    cleared = Ti(try_number=2, max_tries=1)
    result = task(notebook, cleared, reconnect_after_clear=True).run()

    assert result["execution_id"] == before
    assert WARNING in task_log()


def test_without_a_base_url_a_task_of_a_dag_run_that_began_anew_submits_and_warns(
    losant: Emulator, notebook: str, task_log: TaskLog
) -> None:
    before = task(notebook, Ti()).run()["execution_id"]

    cleared = Ti(try_number=2, max_tries=1, dag_run_start=DAG_RUN_START + timedelta(minutes=5))
    result = task(notebook, cleared, reconnect_after_clear=True).run()

    assert list(statuses(losant, notebook)) == [result["execution_id"], before]
    assert WARNING in task_log()


@pytest.mark.usefixtures("base_url")
def test_with_a_base_url_no_warning_is_logged(notebook: str, cleared: Ti, task_log: TaskLog) -> None:
    task(notebook, Ti(), reconnect_after_clear=True).run()
    task(notebook, cleared, reconnect_after_clear=True).run()

    assert "reconnect_after_clear" not in task_log()


@BOTH_MODES
@pytest.mark.parametrize(
    "urls", [("", "https://new.example"), ("https://old.example", "https://new.example")]
)
def test_a_retry_reconnects_after_the_base_url_has_changed(
    losant: Emulator,
    notebook: str,
    monkeypatch: pytest.MonkeyPatch,
    urls: tuple[str, str],
    *,
    deferrable: bool,
) -> None:
    monkeypatch.setenv(BASE_URL_VARIABLE, urls[0])
    before = submit(losant, notebook, Script(notebook=0.5), Ti(max_tries=1))
    monkeypatch.setenv(BASE_URL_VARIABLE, urls[1])

    result = task(notebook, Ti(try_number=2, max_tries=1), deferrable=deferrable).run()

    assert result["execution_id"] == before
    assert statuses(losant, notebook) == {before: "completed"}


@BOTH_MODES
@pytest.mark.parametrize("hours", [63, 24 * 21])
def test_a_retry_after_a_long_weekend_returns_the_result_of_the_execution(
    losant: Emulator, notebook: str, *, deferrable: bool, hours: int
) -> None:
    """The worker died when the execution had completed, and Airflow retries when the operators are back."""
    past = timedelta(hours=hours)
    clock = losant.backend.clock
    losant.backend.clock = lambda: clock() - past.total_seconds()
    first = Ti(max_tries=1, dag_run_start=DAG_RUN_START - past)
    submitted = submit(losant, notebook, BRIEF, first)
    losant.backend.clock = clock
    retry = Ti(try_number=2, max_tries=1, dag_run_start=first.dag_run_start)

    assert task(notebook, retry, deferrable=deferrable).run()["execution_id"] == submitted
    assert operations(losant).count("notebook.execute") == 1
