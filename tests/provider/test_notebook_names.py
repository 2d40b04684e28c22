# SPDX-License-Identifier: Apache-2.0
"""A task finds its notebook by ``notebook_name``, and its execution also if the notebook is renamed."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, TaskDeferred

from airflow_provider_losant.decorators.notebook import losant_notebook_task
from airflow_provider_losant.emulator import Fault, Script
from airflow_provider_losant.exceptions import LosantConfigError, NotebookExecutionError
from airflow_provider_losant.execution import try_state
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.export import LosantNotebookInputDataExportOperator
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.operators.upload import LosantNotebookUploadOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from airflow_provider_losant.transfers.notebook_outputs import LosantNotebookOutputsToObjectStorageOperator
from tests.provider.conftest import cancels, operations, set_connection, statuses
from tests.provider.tasks import BOTH_MODES, Task, TaskStateStore, Ti, context_of, fire
from tests.support.factories import BRIEF
from tests.support.processes import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_losant.emulator import Emulator
    from tests.provider.conftest import TaskLog

pytestmark = pytest.mark.usefixtures("losant_connection")

LIST, EXECUTE, LOGS = "notebooks.get", "notebook.execute", "notebook.logs"
STORES = pytest.mark.parametrize("has_store", [False, True], ids=["Airflow 2.11 to 3.2", "Airflow 3.3"])
"""Whether Airflow has a task state store."""
ENDLESS = Script(ending="hang")


def operator(**options: Any) -> LosantNotebookExecuteOperator:
    given = {"task_id": "report", "notebook_name": "Report", "poll_interval": 0.02, "max_log_lag": 0.1}
    return LosantNotebookExecuteOperator(**{**given, **options})


def task(ti: Ti | None = None, more: dict[str, Any] | None = None, **options: Any) -> Task:
    return Task(lambda: operator(**options), ti or Ti(), more=more or {})


def store(*, has_store: bool) -> dict[str, Any]:
    return {"task_state_store": TaskStateStore()} if has_store else {}


def submit(more: dict[str, Any], ti: Ti | None = None) -> str:
    """Submit an execution by a first try that then loses contact with Airflow; returns its id."""
    lost = task(ti or Ti(max_tries=2), more, deferrable=True)
    with pytest.raises(TaskDeferred):
        lost.make().execute(context_of(lost.ti) | lost.more)
    return str(lost.ti.pushed["execution_id"])


def submit_failing(losant: Emulator, notebook: str, more: dict[str, Any]) -> None:
    """Submit an execution whose notebook fails, and wait until it has."""
    losant.script(notebook, Script(notebook=0.01, ending="errored"))
    submitted = submit(more)
    wait_for(lambda: statuses(losant, notebook)[submitted] == "errored", what="end", timeout=20, every=0.02)


def rename(notebook: str, name: str) -> None:
    LosantHook().update_notebook(notebook, name=name)


def make_old(losant: Emulator, notebook: str) -> None:
    """Let a notebook have its name since before the DAG run."""
    yesterday = time.time() - 86_400
    entity = losant.backend.notebooks[notebook]
    losant.backend.put(replace(entity, created_at=yesterday, updated_at=yesterday))


def submissions(losant: Emulator) -> int:
    return operations(losant).count(EXECUTE)


# -- finding ----------------------------------------------------------------------------------------------


@BOTH_MODES
def test_a_task_finds_its_notebook_with_one_request_and_publishes_the_id(
    losant: Emulator, notebook: str, task_log: TaskLog, *, deferrable: bool
) -> None:
    one = task(deferrable=deferrable)

    result = one.run()

    assert (result["notebook_id"], result["status"]) == (notebook, "completed")
    assert operations(losant)[:2] == [LIST, EXECUTE]
    assert operations(losant).count(LIST) == 1
    assert one.ti.pushed["notebook_id"] == notebook
    assert result["url"].endswith(notebook)
    assert f"Notebook 'Report' is {notebook}" in task_log()


@pytest.mark.usefixtures("notebook")
def test_a_task_with_an_id_publishes_no_other_one_and_asks_for_no_name(losant: Emulator) -> None:
    one = task(notebook_name=None, notebook_id=next(iter(losant.backend.notebooks)))

    one.run()

    assert sorted(one.ti.pushed) == ["execution_id", "losant_notebook_link"]
    assert LIST not in operations(losant)


@pytest.mark.parametrize(
    "name",
    ["Report [1]", "Report *", "Report ?", "{Report}", "!Report", "a\\b", "Täglich (1/2)", "日報", "*"],
)
def test_a_name_is_exact_though_losants_filter_is_a_glob(losant: Emulator, name: str) -> None:
    losant.switches.max_per_page = 1
    for other in ("Report 1", "Report", name.upper() + "x", f"{name} ", name.swapcase()):
        losant.add_notebook(other)
    notebook = losant.add_notebook(name)
    names = [it.name for it in losant.backend.notebooks.values()]
    losant.script(notebook, BRIEF)

    if names.count(name) == 1:
        assert task(notebook_name=name).run()["notebook_id"] == notebook
    else:  # a name without upper and lower case
        with pytest.raises(LosantConfigError, match="2 notebooks"):
            task(notebook_name=name).run()


@BOTH_MODES
def test_a_name_that_no_notebook_has_is_a_final_error_that_lists_similar_ones(
    losant: Emulator, *, deferrable: bool
) -> None:
    for name in ("report", "Report 2", "Weather"):
        losant.add_notebook(name)

    with pytest.raises(
        LosantConfigError, match=r"no notebook named 'Report'; similar names: 'report', 'Rep"
    ) as e:
        task(deferrable=deferrable).run()

    assert "Weather" not in str(e.value)
    assert losant.application_id in str(e.value)
    assert submissions(losant) == 0


def test_a_name_that_several_notebooks_have_is_a_final_error_that_lists_their_ids(losant: Emulator) -> None:
    twins = [losant.add_notebook("Report") for _ in range(2)]

    with pytest.raises(LosantConfigError, match=r"2 notebooks .* are named 'Report'") as e:
        task().run()

    assert all(f"{twin} (last updated 20" in str(e.value) for twin in twins)
    assert submissions(losant) == 0


def test_many_names_are_cut_in_the_error(losant: Emulator) -> None:
    for number in range(130):
        losant.add_notebook(f"{number:03}")

    with pytest.raises(LosantConfigError, match=r"its notebooks: '000', .* and 110 more"):
        task().run()


def test_an_application_without_notebooks_is_said_to_have_none() -> None:
    with pytest.raises(LosantConfigError, match="the token sees no notebooks in it"):
        task().run()


@pytest.mark.usefixtures("notebook")
def test_a_search_that_fails_temporarily_is_retried_by_airflow(losant: Emulator) -> None:
    losant.inject(LIST, Fault("server_error"), times=2)

    with pytest.raises(NotebookExecutionError, match="503"):
        task().run()

    assert submissions(losant) == 0


# -- arguments --------------------------------------------------------------------------------------------

CLASSES: dict[Any, dict[str, Any]] = {
    LosantNotebookExecuteOperator: {},
    LosantNotebookInputDataExportOperator: {},
    LosantNotebookUploadOperator: {"path": "report.ipynb"},
    LosantNotebookOutputsToObjectStorageOperator: {"execution_id": "0" * 24, "destination": "out"},
    LosantNotebookExecutionSensor: {"execution_id": "0" * 24},
}
ONE = "Give exactly one of notebook_id and notebook_name"


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    "given", [{}, {"notebook_id": "0" * 24, "notebook_name": "Report"}], ids=["neither", "both"]
)
def test_both_or_neither_are_refused_when_the_dag_is_parsed(kind: Any, given: dict[str, str]) -> None:
    with pytest.raises(TypeError, match=ONE):
        kind(task_id="one", **CLASSES[kind], **given)


def test_so_they_are_in_the_decorator() -> None:
    from airflow.providers.common.compat.sdk import DAG

    def describe() -> None: ...

    with DAG("energy", schedule=None), pytest.raises(TypeError, match=ONE):
        losant_notebook_task(describe)()


@pytest.mark.parametrize("kind", CLASSES)
def test_two_templates_that_both_render_to_something_are_refused_before_any_request(
    losant: Emulator, tmp_path: Path, kind: Any
) -> None:
    file = tmp_path / "report.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    more = {**CLASSES[kind], **({"path": str(file)} if "path" in CLASSES[kind] else {})}
    one = kind(task_id="one", **more, notebook_id="{{ params.id }}", notebook_name="{{ params.name }}")
    one.notebook_id, one.notebook_name = "0" * 24, "Report"

    with pytest.raises(LosantConfigError, match="notebook_name: is given, and so is notebook_id"):
        one.execute(context_of(Ti()))

    assert losant.requests == []


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"notebook_name": ""}, "notebook_id: is missing, and so is notebook_name"),
        ({"notebook_id": " "}, "notebook_id: is missing, and so is notebook_name"),
        ({"notebook_name": 2026}, "notebook_name: 2026 is not text"),  # a template that is rendered natively
    ],
    ids=["name", "id", "number"],
)
def test_a_template_that_renders_to_nothing_or_to_no_text_is_refused_before_any_request(
    losant: Emulator, tmp_path: Path, kind: Any, given: dict[str, Any], says: str
) -> None:
    file = tmp_path / "report.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    more = {**CLASSES[kind], **({"path": str(file)} if "path" in CLASSES[kind] else {})}

    with pytest.raises(LosantConfigError, match=says):
        kind(task_id="one", **more, **given).execute(context_of(Ti()))

    assert losant.requests == []


# -- resuming ---------------------------------------------------------------------------------------------


def test_a_task_that_resumes_knows_the_id_though_the_notebook_was_renamed(
    losant: Emulator, notebook: str
) -> None:
    ti = Ti()
    with pytest.raises(TaskDeferred) as deferred:
        operator(deferrable=True).execute(context_of(ti))
    rename(notebook, "Renamed")
    losant.clear_requests()

    with pytest.raises(TaskDeferred) as again:
        operator(deferrable=True).resume_execution("__fail__", {"error": "crash"}, context_of(ti))
    assert operations(losant) == []
    assert again.value.trigger.target == deferred.value.trigger.target
    result = operator().execute_complete(context_of(ti), event=fire(again.value.trigger))

    assert result["notebook_id"] == notebook
    assert LIST not in operations(losant)


def test_a_task_that_had_an_id_when_it_was_deferred_finds_the_notebook(
    losant: Emulator, notebook: str
) -> None:
    ti = Ti()
    with pytest.raises(TaskDeferred) as deferred:
        operator(notebook_name=None, notebook_id=notebook, deferrable=True).execute(context_of(ti))

    result = operator().execute_complete(context_of(ti), event=fire(deferred.value.trigger))

    assert (result["notebook_id"], submissions(losant)) == (notebook, 1)


def test_such_a_task_fails_with_the_reason_if_no_notebook_has_the_name(notebook: str) -> None:
    ti = Ti()
    with pytest.raises(TaskDeferred) as deferred:
        operator(notebook_name=None, notebook_id=notebook, deferrable=True).execute(context_of(ti))
    event = fire(deferred.value.trigger)
    rename(notebook, "Renamed")

    says = r"no notebook named 'Report'.*\(connection 'losant_default'\)"
    with pytest.raises(NotebookExecutionError, match=says):
        operator().execute_complete(context_of(ti), event=event)


def test_a_task_that_waited_for_another_execution_submits_to_the_notebook_it_had_found(
    losant: Emulator, notebook: str
) -> None:
    losant.script(notebook, Script(notebook=0.3))
    LosantHook().execute_notebook(notebook)
    losant.script(notebook, BRIEF)

    result = task(deferrable=True, if_running="wait").run()

    assert (result["notebook_id"], submissions(losant)) == (notebook, 2)
    assert operations(losant).count(LIST) == 1


def test_mapped_tasks_find_a_notebook_each(losant: Emulator, notebook: str) -> None:
    other = losant.add_notebook("Weather")
    losant.script(other, BRIEF)
    names = {"Report": notebook, "Weather": other}

    tasks = [task(Ti(map_index=index), notebook_name=name) for index, name in enumerate(names)]

    assert [it.run()["notebook_id"] for it in tasks] == list(names.values())


# -- retries ----------------------------------------------------------------------------------------------


def again(more: dict[str, Any], number: int = 2, **options: Any) -> Task:
    return task(Ti(try_number=number, max_tries=2), more, **options)


@BOTH_MODES
@STORES
def test_a_retry_reconnects_though_the_notebook_has_another_name(
    losant: Emulator, notebook: str, *, has_store: bool, deferrable: bool
) -> None:
    more = store(has_store=has_store)
    losant.add_notebook("Weather")
    submitted = submit(more)
    rename(notebook, "Renamed")

    retry = again(more, deferrable=deferrable)
    result = retry.run()

    assert (result["execution_id"], result["notebook_id"]) == (submitted, notebook)
    assert retry.ti.pushed["notebook_id"] == notebook
    assert submissions(losant) == 1


@BOTH_MODES
@STORES
def test_a_retry_reconnects_though_another_notebook_has_the_name_now(
    losant: Emulator, notebook: str, *, has_store: bool, deferrable: bool
) -> None:
    more = store(has_store=has_store)
    submitted = submit(more)
    rename(notebook, "Report (old)")
    losant.add_notebook("Report")

    result = again(more, deferrable=deferrable).run()

    assert (result["execution_id"], result["notebook_id"]) == (submitted, notebook)
    assert submissions(losant) == 1


@STORES
def test_a_retry_after_an_error_runs_the_notebook_that_has_the_name_now(
    losant: Emulator, notebook: str, *, has_store: bool
) -> None:
    more = store(has_store=has_store)
    submit_failing(losant, notebook, more)
    rename(notebook, "Report (old)")
    new = losant.add_notebook("Report")
    losant.script(new, BRIEF)

    result = again(more).run()

    assert (result["notebook_id"], result["status"]) == (new, "completed")
    assert submissions(losant) == 2


@STORES
def test_a_retry_without_the_notebook_fails_for_good_only_when_no_execution_can_exist(
    losant: Emulator, notebook: str, *, has_store: bool
) -> None:
    more = store(has_store=has_store)
    submit_failing(losant, notebook, more)
    rename(notebook, "Renamed")
    losant.inject(LOGS, Fault("server_error"), times=3)

    with pytest.raises(NotebookExecutionError, match="is unknown, a retry searches again"):
        again(more, max_poll_outage=0.01).run()
    losant.clear_faults()
    with pytest.raises(LosantConfigError, match=r"no notebook named 'Report'; .*'Renamed'"):
        again(more, 3).run()

    assert submissions(losant) == 1


@STORES
def test_a_retry_after_a_lost_response_reconnects_also_after_the_next_has_found_no_notebook(
    losant: Emulator, notebook: str, *, has_store: bool
) -> None:
    more = store(has_store=has_store)
    losant.inject(EXECUTE, Fault("reset_after"))
    losant.inject(LOGS, Fault("server_error"), times=9)
    with pytest.raises(NotebookExecutionError, match="is unknown"):
        task(Ti(max_tries=2), more, max_poll_outage=0.01).run()
    losant.clear_faults()
    losant.inject(LIST, Fault("server_error"), times=9)
    losant.inject(LOGS, Fault("server_error"), times=9)

    with pytest.raises(NotebookExecutionError, match="is unknown"):
        again(more, max_poll_outage=0.01).run()
    losant.clear_faults()
    result = again(more, 3).run()

    assert (result["notebook_id"], submissions(losant)) == (notebook, 1)


def test_a_retry_waits_while_the_notebook_cannot_be_looked_up(losant: Emulator, notebook: str) -> None:
    submitted = submit({})
    losant.inject(LIST, Fault("server_error"), times=3)

    assert again({}).run()["execution_id"] == submitted
    assert (notebook, submissions(losant)) == (next(iter(losant.backend.notebooks)), 1)


def test_a_retry_asks_for_no_other_log_if_the_notebook_had_its_name_before_the_dag_run(
    losant: Emulator, notebook: str
) -> None:
    make_old(losant, notebook)
    losant.add_notebook("Weather")
    losant.inject(EXECUTE, Fault("unauthorized"), times=2)
    with pytest.raises(AirflowException):
        task(Ti(max_tries=2)).run()
    losant.clear_requests()
    losant.clear_faults()

    again({}).run()

    logs = {it.path.split("/")[-2] for it in losant.requests if it.operation == LOGS}
    assert (logs, operations(losant).count(LIST)) == ({notebook}, 1)


def test_a_retry_searches_other_notebooks_only_until_one_was_not_executed_since_the_dag_run(
    losant: Emulator, notebook: str
) -> None:
    elsewhere = [losant.add_notebook(f"Weather {number}") for number in range(3)]
    for at, it in enumerate(elsewhere):
        losant.script(it, BRIEF)
        LosantHook().execute_notebook(it)
        for execution in list(losant.backend.executions(it)):
            losant.backend.put(replace(execution, queued_at=time.time() - (3 - at) * 86_400))
    submit_failing(losant, notebook, {})
    rename(notebook, "Renamed")
    losant.clear_requests()

    with pytest.raises(LosantConfigError, match="no notebook named 'Report'"):
        again({}).run()

    assert {it.path.split("/")[-2] for it in losant.requests if it.operation == LOGS} == {notebook}


def test_a_resumption_that_begins_a_retry_reconnects_though_the_notebook_has_another_name(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(try_state, "retry_repeats_resumption", lambda: True)  # as in Airflow 3.0
    losant.script(notebook, Script(notebook=0.5))
    ti = Ti(max_tries=1)
    submitted = submit({}, ti)
    rename(notebook, "Renamed")
    ti.try_number = 2

    with pytest.raises(TaskDeferred) as deferred:
        operator(deferrable=True).resume_execution("__fail__", {"error": "timeout"}, context_of(ti))

    assert deferred.value.trigger.target.execution_id == submitted
    assert submissions(losant) == 1


# -- kills ------------------------------------------------------------------------------------------------


def run_and_kill(losant: Emulator, operation: str, one: Task) -> None:
    """Run a task, and kill it when Losant has received a request."""
    made = one.make()

    def kill() -> None:
        wait_for(lambda: operation in operations(losant), what="the request", timeout=20, every=0.02)
        made.on_kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(AirflowException, match="killed"):
        made.execute(context_of(one.ti) | one.more)
    killer.join(20)


@pytest.mark.usefixtures("notebook")
def test_a_kill_while_the_notebook_is_looked_up_submits_and_cancels_nothing(
    losant: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, losant, extra={"timeout": 1.0})
    losant.inject(LIST, Fault("hang", seconds=20), times=2)

    run_and_kill(losant, LIST, task())

    assert (submissions(losant), cancels(losant)) == (0, 0)


def test_a_kill_after_that_cancels_the_execution(losant: Emulator, notebook: str) -> None:
    losant.script(notebook, ENDLESS)

    run_and_kill(losant, LOGS, task())

    assert (submissions(losant), cancels(losant)) == (1, 1)


def test_a_kill_while_a_retry_searches_the_stored_notebook_cancels_the_execution(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, losant, extra={"timeout": 1.0})
    losant.script(notebook, ENDLESS)
    more = store(has_store=True)
    submitted = submit(more)
    rename(notebook, "Renamed")
    losant.inject(LOGS, Fault("hang", seconds=20))

    run_and_kill(losant, LOGS, again(more))

    assert statuses(losant, notebook) == {submitted: "canceled"}
    assert cancels(losant) == 1


# -- the other operators ----------------------------------------------------------------------------------


def sensor(**options: Any) -> Task:
    given = {"task_id": "await", "notebook_name": "Report", "poke_interval": 0.02, "timeout": 20.0}
    return Task(lambda: LosantNotebookExecutionSensor(**{**given, **options}))


@BOTH_MODES
def test_a_sensor_finds_the_notebook_once_and_tolerates_failures(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    losant.script(notebook, Script(notebook=0.2))
    execution = LosantHook().execute_notebook(notebook)
    losant.inject(LIST, Fault("server_error"), times=2)
    one = sensor(execution_id=execution, deferrable=deferrable)

    result = one.run()

    assert (result["execution_id"], result["notebook_id"]) == (execution, notebook)
    assert one.ti.pushed["notebook_id"] == notebook
    assert operations(losant).count(LIST) == 3


@BOTH_MODES
def test_a_sensor_whose_notebook_does_not_exist_fails_for_good(*, deferrable: bool) -> None:
    with pytest.raises(LosantConfigError, match="no notebook named 'Report'"):
        sensor(execution_id="0" * 24, deferrable=deferrable).run()


def test_an_export_is_requested_of_the_notebook_with_the_name(losant: Emulator, notebook: str) -> None:
    ti = Ti()

    export = LosantNotebookInputDataExportOperator(task_id="export", notebook_name="Report")
    result = export.execute(context_of(ti))

    assert result["notebook_id"] == ti.pushed["notebook_id"] == notebook
    assert operations(losant) == [LIST, "notebook.requestInputDataExport"]


def test_outputs_are_copied_from_the_notebook_with_the_name(notebook: str, tmp_path: Path) -> None:
    execution = task().run()["execution_id"]

    copy = LosantNotebookOutputsToObjectStorageOperator(
        task_id="copy", notebook_name="Report", execution_id=execution, destination=str(tmp_path)
    )
    copied = copy.execute(context_of(Ti()))

    assert sorted(json.loads(json.dumps(copied))) == ["out.csv", "result.html"]
    assert copy.get_openlineage_facets_on_complete(None).inputs[0].name.split("/")[2] == notebook


def test_the_hook_returns_the_notebook_with_the_name(notebook: str) -> None:
    assert LosantHook().find_notebook("Report").id == notebook
