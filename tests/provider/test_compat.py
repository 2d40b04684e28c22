# SPDX-License-Identifier: Apache-2.0
"""The provider works without the features that an older Airflow lacks, and does not import them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.provider.tasks import Task, TaskStateStore, Ti
from tests.support.paths import ROOT
from tests.support.source_files import PACKAGE, modules

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator
    from tests.provider.conftest import TaskLog

IMPORT_ALL = """
import importlib, json, sys, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for name in sys.argv[1:]:
        importlib.import_module(name)
print(json.dumps([[it.filename, str(it.message)] for it in caught]))
"""


def test_every_module_is_imported_without_an_error_or_a_warning_of_ours() -> None:
    names = [name for name in modules() if not name.endswith("__main__")]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *names], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    warned = json.loads(done.stdout.splitlines()[-1])
    assert [(file, message) for file, message in warned if f"/{PACKAGE}/" in file] == []


@pytest.mark.airflow(since="3.3")
@pytest.mark.usefixtures("losant_connection")
def test_the_execution_id_is_also_saved_in_the_task_state_store(losant: Emulator, notebook: str) -> None:
    from airflow.sdk import Context

    store = TaskStateStore()
    ti = Ti(max_tries=2)
    result = task(notebook, {"task_state_store": store}, ti).run()

    assert "task_state_store" in Context.__annotations__
    assert store == {
        "losant_execution": {
            "execution_id": result["execution_id"],
            "dag_run_start": ti.dag_run_start.isoformat(),
            "max_tries": 2,
            "region": "",
        }
    }


@pytest.mark.usefixtures("losant_connection")
@pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])
def test_with_a_task_state_store_a_first_try_that_begins_twice_submits_once(
    losant: Emulator, notebook: str, *, deferrable: bool
) -> None:
    """Airflow begins it again if its scheduler notices the deferral only after the trigger has fired."""
    more = {"task_state_store": TaskStateStore()}
    first = task(notebook, more, Ti(max_tries=2), deferrable=deferrable).run()["execution_id"]

    again = task(notebook, more, Ti(max_tries=2), deferrable=deferrable).run()["execution_id"]

    assert again == first
    assert len(losant.executions(notebook)) == 1


@pytest.mark.usefixtures("losant_connection")
def test_a_task_state_store_that_fails_is_logged_and_a_retry_reconnects_by_the_marker(
    losant: Emulator, notebook: str, task_log: TaskLog
) -> None:
    class FailingStore(TaskStateStore):
        def set(self, key: str, value: Any) -> None:
            raise RuntimeError(f"{key} has no room")

    more, ti = {"task_state_store": FailingStore()}, Ti(max_tries=1)
    first = task(notebook, more, ti).run()
    ti.try_number = 2

    assert task(notebook, more, ti).run()["execution_id"] == first["execution_id"]
    assert len(losant.executions(notebook)) == 1
    logged = task_log()
    assert "The execution id could not be stored in the task state store" in logged
    assert "losant_execution has no room" in logged


@pytest.mark.usefixtures("losant_connection")
def test_with_a_task_state_store_a_retry_reconnects_without_a_marker(losant: Emulator, notebook: str) -> None:
    store, ti = TaskStateStore(), Ti(max_tries=1)
    more = {"task_state_store": store}
    first = task(notebook, more, ti, template_context={"airflow": "mine"}).run()
    ti.try_number = 2

    retry = task(notebook, more, ti, template_context={"airflow": "mine"})

    assert retry.run()["execution_id"] == first["execution_id"]
    assert len(losant.executions(notebook)) == 1


@pytest.mark.usefixtures("losant_connection")
def test_without_a_task_state_store_a_retry_reconnects_by_the_marker(losant: Emulator, notebook: str) -> None:
    ti = Ti(max_tries=1)
    first = task(notebook, {}, ti).run()
    ti.try_number = 2

    assert task(notebook, {}, ti).run()["execution_id"] == first["execution_id"]
    assert len(losant.executions(notebook)) == 1


def task(notebook: str, more: dict[str, Any], ti: Ti | None = None, **options: Any) -> Task:
    given = {"task_id": "report", "notebook_id": notebook, "poll_interval": 0.02, **options}
    return Task(lambda: LosantNotebookExecuteOperator(**given), ti or Ti(), more=more)
