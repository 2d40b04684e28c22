# SPDX-License-Identifier: Apache-2.0
"""Airflow itself runs tasks that find their notebooks by name: retried, deferred, mapped and waiting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_losant.emulator import Emulator
from tests.provider.conftest import IN_AIRFLOW_DATABASE, dag_bundle, set_connection
from tests.support.factories import BRIEF

pytestmark = [*IN_AIRFLOW_DATABASE]

DAGS = Path(__file__).parent / "dags"
MODES = ("reschedule", "started")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """
    What is left after the DAG run.

    :param notebooks: The id of each notebook by its first name.
    :param executions: How many executions each notebook has, by the same name.
    :param results: The XCom of each task instance, by task and map index.
    :param ids: Its XCom ``notebook_id``.
    """

    notebooks: Mapping[str, str]
    executions: Mapping[str, int]
    states: Mapping[tuple[str, int], str]
    results: Mapping[tuple[str, int], Any]
    ids: Mapping[tuple[str, int], str]


@pytest.fixture(scope="module")
def finished(airflow_db: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("outputs")
    (folder / "file").touch()
    with Emulator() as losant, dag_bundle(DAGS) as patch:
        set_connection(patch, losant)
        from tests.provider.dags.names import names

        notebooks = {it: losant.add_notebook(it) for it in ("Retried waiting", "Retried deferred", "Report")}
        for it in notebooks.values():
            losant.script(it, BRIEF)
        places = {"file": str(folder / "file" / "below"), "folder": str(folder / "copied")}
        run = names.test(run_conf={"name": "Report", **places})
        tis = {(ti.task_id, ti.map_index): ti for ti in run.get_task_instances()}

        def pulled(key: str) -> dict[tuple[str, int], Any]:
            return {
                place: ti.xcom_pull(task_ids=place[0], key=key, map_indexes=place[1])
                for place, ti in tis.items()
            }

        yield Finished(
            notebooks=notebooks,
            executions={name: len(losant.executions(it)) for name, it in notebooks.items()},
            states={place: str(ti.state) for place, ti in tis.items()},
            results=pulled("return_value"),
            ids=pulled("notebook_id"),
        )


def test_every_task_succeeds(finished: Finished) -> None:
    assert set(finished.states.values()) == {"success"}


@pytest.mark.parametrize("kind", ["waiting", "deferred"])
def test_a_retry_returns_the_result_of_the_first_try_though_the_notebook_was_renamed(
    finished: Finished, kind: str
) -> None:
    result = finished.results[f"retried_{kind}", -1]

    assert result["notebook_id"] == finished.notebooks[f"Retried {kind}"]
    assert len(result["saved_outputs"]) == len(BRIEF.files)


def test_no_retry_has_submitted_another_execution(finished: Finished) -> None:
    # "Retried waiting" was also run by a mapped task, and "Report" by another and by the decorated function.
    assert finished.executions == {"Retried waiting": 2, "Retried deferred": 1, "Report": 2}


def test_each_mapped_task_has_found_its_own_notebook(finished: Finished) -> None:
    wanted = [finished.notebooks["Retried waiting"], finished.notebooks["Report"]]

    assert [finished.results["mapped", index]["notebook_id"] for index in range(2)] == wanted
    assert [finished.ids["mapped", index] for index in range(2)] == wanted


@pytest.mark.parametrize("mode", MODES)
def test_sensors_return_the_result_of_the_execution(finished: Finished, mode: str) -> None:
    result = finished.results[f"await_{mode}", -1]

    assert result["execution_id"] == finished.results["decorated", -1]["execution_id"]
    assert finished.ids[f"await_{mode}", -1] == finished.notebooks["Report"]
