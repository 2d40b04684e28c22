# SPDX-License-Identifier: Apache-2.0
"""Airflow 3.4 keeps the XComs of each try: each shows its own execution and link, and no try another's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_losant.emulator import Emulator, Script
from tests.provider.conftest import IN_AIRFLOW_DATABASE, dag_bundle, set_connection
from tests.support.factories import BRIEF

pytestmark = [pytest.mark.airflow(since="3.4"), *IN_AIRFLOW_DATABASE]
both_modes = pytest.mark.parametrize("task_id", ["waiting", "deferred"])

DAGS = Path(__file__).parent / "dags"
KEYS = ("execution_id", "losant_notebook_link", "return_value")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """
    What Airflow shows of a DAG run whose tasks had two tries.

    :param executions: The executions of the notebooks of the first and of the second try.
    :param buttons: The link behind the button of a task, by task and try.
    :param xcoms: The XComs of tries, by task, try and key.
    :param current: What a task pulls of another one, by task and key.
    """

    executions: list[set[str]]
    buttons: Mapping[tuple[str, int], str | None]
    xcoms: Mapping[tuple[str, int, str], Any]
    current: Mapping[tuple[str, str], Any]


def run(losant: Emulator, *notebooks: str) -> Finished:
    """Run the DAG, whose tasks run another notebook in each try."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.utils.session import create_session
    from sqlalchemy import select

    from tests.provider.dags.attempts import attempts

    dag_run = attempts.test(run_conf={"notebooks": notebooks})
    stored = DagSerialization.from_dict(DagSerialization.to_dict(attempts))
    of_run = select(TaskInstance).where(TaskInstance.run_id == dag_run.run_id)
    get_many: Any = XComModel.get_many  # Airflow 3.4 added `try_number`
    with create_session() as session:
        tries = session.scalars(of_run.execution_options(include_all_attempts=True)).all()
        buttons = {
            (it.task_id, it.try_number): stored.get_task(it.task_id).get_extra_links(it, "Open in Losant")
            for it in tries
        }
        xcoms = {
            (it.task_id, it.try_number, row.key): row.value
            for it in tries
            for row in session.scalars(
                get_many(run_id=it.run_id, task_ids=it.task_id, try_number=it.try_number)
            )
        }
    return Finished(
        executions=[
            {it["id"] for it in losant.executions(notebook)} for notebook in notebooks if " " not in notebook
        ],
        buttons=buttons,
        xcoms=xcoms,
        current={
            (ti.task_id, key): ti.xcom_pull(task_ids=ti.task_id, key=key)
            for ti in dag_run.get_task_instances()
            for key in KEYS
        },
    )


@pytest.fixture(scope="module")
def losant(airflow_db: None) -> Iterator[Emulator]:
    with Emulator() as emulator, dag_bundle(DAGS) as patch:
        set_connection(patch, emulator, extra={"app_url": "https://ui.example/{execution_id}"})
        patch.setenv("AIRFLOW__LOSANT__REPORT_LINKS", "True")
        yield emulator


@pytest.fixture(scope="module")
def failing(losant: Emulator) -> str:
    """Return the id of a notebook whose executions fail."""
    notebook = losant.add_notebook("Failing")
    losant.script(notebook, Script(notebook=0.01, ending="errored"))
    return notebook


@pytest.fixture(scope="module")
def succeeded(losant: Emulator, failing: str) -> Finished:
    """Return a DAG run whose second tries completed."""
    good = losant.add_notebook("Good")
    losant.script(good, BRIEF)
    return run(losant, failing, good)


@pytest.fixture(scope="module")
def refused(losant: Emulator, failing: str) -> Finished:
    """Return a DAG run whose second tries had an invalid argument, and submitted nothing."""
    return run(losant, failing, "my notebook")


@both_modes
def test_each_try_has_the_link_and_the_id_of_its_own_execution(succeeded: Finished, task_id: str) -> None:
    for try_number, executions in enumerate(succeeded.executions, start=1):
        execution = succeeded.xcoms[task_id, try_number, "execution_id"]

        assert execution in executions
        assert succeeded.buttons[task_id, try_number] == f"https://ui.example/{execution}"


@both_modes
def test_a_report_belongs_to_the_try_that_has_made_it(succeeded: Finished, task_id: str) -> None:
    assert (task_id, 1, "losant_report") not in succeeded.xcoms
    pushed = succeeded.xcoms[task_id, 2, "losant_report"]
    assert (pushed["try_number"], pushed["execution_id"]) == (
        "2",
        succeeded.xcoms[task_id, 2, "execution_id"],
    )
    assert succeeded.xcoms[task_id, 2, "losant_report_link"].endswith("/2")


@both_modes
def test_other_tasks_pull_the_result_of_the_latest_try(succeeded: Finished, task_id: str) -> None:
    latest = succeeded.xcoms[task_id, 2, "execution_id"]

    assert succeeded.current[task_id, "execution_id"] == latest
    assert succeeded.current[task_id, "return_value"]["execution_id"] == latest
    assert (task_id, 1, "return_value") not in succeeded.xcoms


@both_modes
def test_a_try_that_submits_nothing_shows_no_execution_of_an_earlier_one(
    refused: Finished, task_id: str
) -> None:
    assert refused.xcoms[task_id, 1, "execution_id"] in refused.executions[0]
    assert {refused.current[task_id, key] for key in KEYS} <= {None, ""}
    assert not refused.buttons[task_id, 2]
