# SPDX-License-Identifier: Apache-2.0
"""A failure callback gets the exception that the task has raised, with what it knows of the execution."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_losant._compat import AIRFLOW_RELEASE
from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.hooks.losant import LosantHook
from tests.provider.conftest import IN_AIRFLOW_DATABASE, dag_bundle, set_connection

pytestmark = [
    *IN_AIRFLOW_DATABASE,
    pytest.mark.skipif(
        (3, 0) <= AIRFLOW_RELEASE < (3, 3),
        reason="dag.test() of Airflow 3.0 to 3.2 passes on no exception, unlike a worker",
    ),
]

DAGS = Path(__file__).parent / "dags"
TASKS = [f"{name}_{deferrable}" for name in ("final", "failed", "awaited") for deferrable in (False, True)]


@pytest.fixture(scope="module")
def recorded(
    airflow_db: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Return the id of a notebook that fails, and what the callbacks of its tasks got."""
    file = tmp_path_factory.mktemp("alerts") / "recorded"
    with Emulator() as losant, dag_bundle(DAGS) as patch:
        set_connection(patch, losant)
        from tests.provider.dags.alerts import alerts

        notebook = losant.add_notebook("Bad")
        losant.script(notebook, Script(notebook=0.01, ending="errored", errors=(("ValueError", "boom"),)))
        execution = LosantHook().execute_notebook(notebook)
        alerts.test(run_conf={"notebook": notebook, "execution": execution, "file": str(file)})
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert len(lines) == len(TASKS)
        assert len(losant.executions(notebook)) == len(TASKS) - 1
        yield notebook, {it["task_id"]: it for it in lines}


@pytest.mark.parametrize("task_id", TASKS)
def test_a_callback_gets_the_exception_with_what_it_knows(
    recorded: tuple[str, Mapping[str, Any]], task_id: str
) -> None:
    notebook, lines = recorded
    line = lines[task_id]

    assert line["kind"] == "NotebookExecutionFailed"
    assert (line["notebook_id"], line["status"]) == (notebook, "errored")
    assert line["execution_id"]
    assert line["url"].endswith(notebook)
    assert line["errors"] == [{"name": "ValueError", "message": "boom"}]
