# SPDX-License-Identifier: Apache-2.0
"""Mapped tasks do not replace the files of each other: a folder that they would share is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_losant.emulator import Emulator
from airflow_provider_losant.exceptions import LosantConfigError, permanent_errors_as_config_error
from airflow_provider_losant.execution.mapped_folder import check_mapped_folder
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.provider.conftest import IN_AIRFLOW_DATABASE, dag_bundle, set_connection
from tests.provider.dags import mapped as dag_file
from tests.support.factories import BRIEF

pytestmark = [*IN_AIRFLOW_DATABASE]

DAGS = Path(__file__).parent / "dags"
APART = [*dag_file.APART, "mapped_folder", "mapped_kwargs", "decorated", "sites.apart"]
SHARED = [*dag_file.SHARED, "decorated_shared", "sites.shared"]


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The states, the results, and the tasks that submitted an execution, after the DAG run."""

    states: Mapping[tuple[str, int], str]
    results: Mapping[tuple[str, int], Any]
    submitted: set[tuple[str, int]]


@pytest.fixture(scope="module")
def finished(airflow_db: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    with Emulator() as losant, dag_bundle(DAGS) as patch:
        set_connection(patch, losant)
        notebook = losant.add_notebook("Good")
        losant.script(notebook, BRIEF)
        folder = tmp_path_factory.mktemp("outputs")
        run = dag_file.mapped.test(run_conf={"notebook": notebook, "folder": str(folder)})
        tasks = {(ti.task_id, ti.map_index): ti for ti in run.get_task_instances()}
        owners = [
            json.loads(it.body["templateContext"])["airflow"]
            for it in losant.requests
            if it.operation == "notebook.execute"
        ]
        yield Finished(
            states={key: str(ti.state) for key, ti in tasks.items()},
            results={key: ti.xcom_pull(task_ids=key[0], map_indexes=key[1]) for key, ti in tasks.items()},
            submitted={(it["task_id"], it["map_index"]) for it in owners},
        )


@pytest.mark.parametrize("task_id", APART)
def test_mapped_tasks_with_a_folder_each_save_all_their_files(finished: Finished, task_id: str) -> None:
    saved = [finished.results[task_id, index]["saved_outputs"] for index in (0, 1)]
    paths = {path for it in saved for path in it.values()}

    assert len(paths) == 2 * len(BRIEF.files)
    assert all(Path(path).is_file() for path in paths)


@pytest.mark.parametrize("task_id", SHARED)
def test_a_folder_that_mapped_tasks_would_share_is_refused_before_the_submission(
    finished: Finished, task_id: str
) -> None:
    for index in (0, 1):
        assert finished.states[task_id, index] == "failed"
        assert (task_id, index) not in finished.submitted


def test_mapped_tasks_that_save_nothing_need_no_folder(finished: Finished) -> None:
    assert [finished.states["not_saved", index] for index in (0, 1)] == ["success", "success"]


def test_a_shared_folder_is_refused_with_a_message_that_says_what_to_add() -> None:
    with DAG("refused", schedule=None):
        declared = LosantNotebookExecuteOperator.partial(
            task_id="report", notebook_id="5c782b8d4f3a8e51c1db42e4", save_outputs_to="s3://reports/{{ ds }}"
        ).expand(template_context=dag_file.SITES)
    task = declared.unmap({"template_context": dag_file.SITES[0]})

    with pytest.raises(LosantConfigError) as refused:
        check(task)

    assert str(refused.value) == (
        "save_outputs_to: s3://reports/{{ ds }} is the same folder for all map indexes of this task, so each "
        "would replace the files of the others; add something that differs, such as {{ ti.map_index }} or a "
        "mapped argument"
    )


class Folder(str, Enum):  # noqa: UP042 - whose text is not its value, unlike that of StrEnum
    APART = "s3://reports/{{ ti.map_index }}"
    SHARED = "s3://reports/{{ ds }}"


@pytest.mark.parametrize(("folder", "is_refused"), [(Folder.APART, False), (Folder.SHARED, True)], ids=repr)
def test_a_folder_that_is_a_member_of_an_enum_is_its_value(folder: Folder, is_refused: bool) -> None:
    with DAG("energy", schedule=None):
        declared = LosantNotebookExecuteOperator.partial(
            task_id="report", notebook_id="5c782b8d4f3a8e51c1db42e4", save_outputs_to=folder
        ).expand(template_context=dag_file.SITES)
    task = declared.unmap({"template_context": dag_file.SITES[0]})

    with pytest.raises(LosantConfigError) if is_refused else nullcontext():
        check(task)


def check(task: Any) -> None:
    with permanent_errors_as_config_error():
        check_mapped_folder(task)
