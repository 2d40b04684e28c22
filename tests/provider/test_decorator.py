# SPDX-License-Identifier: Apache-2.0
"""``@task.losant_notebook``: the function returns the template context, and the task the result."""

from __future__ import annotations

import inspect
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_losant.decorators import notebook as decorators
from airflow_provider_losant.emulator import Emulator, Request, Script
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.provider.conftest import IN_AIRFLOW_DATABASE, dag_bundle, set_connection
from tests.support.factories import BRIEF

pytestmark = [*IN_AIRFLOW_DATABASE]

DAGS = Path(__file__).parent / "dags"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The XComs and states after the DAG run."""

    states: Mapping[tuple[str, int], str]
    results: Mapping[tuple[str, int], Any]
    orders: list[Request]
    day: str

    def submission_of(self, task_id: str, map_index: int = -1) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the only submission of a task, and its context without the marker."""
        found = [(it.body, json.loads(it.body["templateContext"])) for it in self.orders]
        ((body, context),) = [
            (body, submitted)
            for body, submitted in found
            if (submitted["airflow"]["task_id"], submitted["airflow"]["map_index"]) == (task_id, map_index)
        ]
        return body, {name: value for name, value in context.items() if name != "airflow"}


@pytest.fixture(scope="module")
def finished(airflow_db: None) -> Iterator[Finished]:
    with Emulator() as losant, dag_bundle(DAGS) as patch:
        set_connection(patch, losant)
        from tests.provider.dags.taskflow import taskflow

        notebook = losant.add_notebook("Good")
        busy = losant.add_notebook("Busy")
        losant.script(busy, Script(ending="hang"))
        running = LosantHook().execute_notebook(busy)
        for it in (notebook, busy):
            losant.script(it, BRIEF)
        freeing = threading.Thread(target=free, args=(losant, busy, running))
        freeing.start()
        run = taskflow.test(run_conf={"notebook": notebook, "busy": busy})
        freeing.join()
        tasks = {(ti.task_id, ti.map_index): ti for ti in run.get_task_instances()}
        yield Finished(
            states={key: str(ti.state) for key, ti in tasks.items()},
            results={
                key: ti.xcom_pull(task_ids=key[0], map_indexes=None if key[1] < 0 else key[1])
                for key, ti in tasks.items()
            },
            # The first execution does not belong to a task.
            orders=[it for it in losant.requests if it.operation == "notebook.execute"][1:],
            day=run.logical_date.strftime("%Y-%m-%d"),
        )


def free(losant: Emulator, notebook: str, running: str) -> None:
    """Cancel the execution that the task waits for, after a few polls."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        polls = [it for it in losant.requests if it.operation == "notebook.logs" and notebook in it.path]
        if len(polls) > 2:
            break
        time.sleep(0.05)
    LosantHook().cancel_execution(notebook, running)


def test_a_deferred_task_calls_its_function_after_the_other_execution_has_ended(
    finished: Finished,
) -> None:
    assert finished.states["behind", -1] == "success"
    assert finished.submission_of("behind")[1] == {"day": finished.day}


def test_a_function_returns_the_context_and_the_task_the_result(finished: Finished) -> None:
    body, context = finished.submission_of("single")
    result = finished.results["single", -1]

    assert finished.states["single", -1] == finished.states["plain", -1] == "success"
    assert context == {"site": "north", "day": finished.day, "untouched": "{{ theirs }}"}
    assert body["relativeTo"].startswith(finished.day)
    assert result["status"] == "completed"
    assert set(result["outputs"]) == set(BRIEF.files)


def test_downstream_tasks_get_the_result(finished: Finished) -> None:
    assert finished.results["tell", -1] == [
        finished.results["single", -1]["execution_id"],
        finished.results["plain", -1]["execution_id"],
    ]


def test_each_mapped_task_has_its_own_execution(finished: Finished) -> None:
    sites = [finished.submission_of("mapped", index)[1]["site"] for index in (0, 1)]
    ids = {finished.results["mapped", index]["execution_id"] for index in (0, 1)}

    assert sites == ["south", "west"]
    assert len(ids) == 2
    assert [finished.states["mapped", index] for index in (0, 1)] == ["success", "success"]


def test_a_function_may_return_nothing(finished: Finished) -> None:
    assert finished.submission_of("plain")[1] == {}


def test_an_invalid_context_fails_the_task_before_the_submission(finished: Finished) -> None:
    assert finished.states["wrong", -1] == "failed"
    assert len(finished.orders) == 5


def test_the_context_cannot_be_given_twice() -> None:
    def arguments() -> dict[str, Any]:
        return {}

    twice: Any = {"notebook_id": "f" * 24, "template_context": {}}
    with pytest.raises(TypeError, match="template_context: not allowed here; return it from"):
        decorators.losant_notebook_task(arguments, **twice)()


def test_the_decorator_declares_every_operator_argument_with_its_type() -> None:
    parameters = inspect.signature(LosantNotebookExecuteOperator.__init__).parameters
    theirs = set(inspect.signature(BaseOperator.__init__).parameters) | {"kwargs"}
    ours = {name: it.annotation for name, it in parameters.items() if name not in theirs}
    del ours["template_context"]

    assert {name: it.__forward_arg__ for name, it in decorators.NotebookTask.__annotations__.items()} == ours
