# SPDX-License-Identifier: Apache-2.0
"""One DAG run by Airflow itself in this process: native rendering, paths, and XComs of mapped tasks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_losant.emulator import Emulator, Script
from tests.provider.conftest import IN_AIRFLOW_DATABASE, dag_bundle, set_connection

pytestmark = [*IN_AIRFLOW_DATABASE]

DAGS = Path(__file__).parent / "dags"
NOTEBOOK = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'


@dataclass(frozen=True, kw_only=True)
class Finished:
    """What is left after the DAG run, by task and map index."""

    folder: Path
    day: str
    end: datetime
    states: Mapping[tuple[str, int], str]
    results: Mapping[tuple[str, int], Any]
    bodies: Mapping[tuple[str, int], dict[str, Any]]

    def context(self, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Return the template context of a task's submission, without the marker."""
        context: dict[str, Any] = json.loads(self.bodies[task_id, map_index]["templateContext"])
        return {name: value for name, value in context.items() if name != "airflow"}


@pytest.fixture(scope="module")
def finished(airflow_db: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("outputs")
    with Emulator() as losant, dag_bundle(DAGS) as patch:
        set_connection(patch, losant)
        from tests.provider.dags.native import native

        losant.script(
            losant.add_notebook("2024"), Script(notebook=0.03, files={"7": b"seven", "result.html": b"<p>"})
        )
        (folder / "2024.ipynb").write_text(NOTEBOOK)
        conf = {"name": "2024", "folder": str(folder), "since": str(int(time.time() * 1000) - 60_000)}
        run = native.test(run_conf=conf)
        tis = {(ti.task_id, ti.map_index): ti for ti in run.get_task_instances()}
        bodies = {}
        for it in losant.requests:
            if it.operation == "notebook.execute":
                owner = json.loads(it.body["templateContext"])["airflow"]
                bodies[owner["task_id"], owner["map_index"]] = it.body
        yield Finished(
            folder=folder,
            day=f"{run.logical_date:%Y%m%d}",
            end=run.data_interval_end,
            states={place: str(ti.state) for place, ti in tis.items()},
            results={
                place: ti.xcom_pull(task_ids=place[0], map_indexes=None if place[1] < 0 else place[1])
                for place, ti in tis.items()
            },
            bodies=bodies,
        )


def test_every_task_succeeds(finished: Finished) -> None:
    assert {place: state for place, state in finished.states.items() if state != "success"} == {}


@pytest.mark.parametrize("kind", ["waiting", "deferred"])
def test_the_results_of_mapped_tasks_are_lists_in_a_context(finished: Finished, kind: str) -> None:
    assert finished.context(f"lazy_{kind}") == {"ids": [2, 4], "in": [{"ids": ["2", "4"]}], "n": 7}


def test_the_results_of_mapped_tasks_are_arguments_of_a_decorated_function(finished: Finished) -> None:
    context = finished.context("decorated")

    assert datetime.fromisoformat(context.pop("at")) == finished.end
    assert context == {"ids": [2, 4], "share": 0.5}


@pytest.mark.parametrize("kind", ["waiting", "deferred"])
def test_a_date_of_digits_is_a_query_time_and_what_is_missing_is_not_sent(
    finished: Finished, kind: str
) -> None:
    body = finished.bodies[f"lazy_{kind}", -1]

    assert body["relativeTo"] == f"{datetime.fromisoformat(finished.day):%Y-%m-%d}T00:00:00.000Z"
    assert set(body) == {"relativeTo", "templateContext"}


@pytest.mark.parametrize(
    ("place", "below"),
    [
        (("lazy_waiting", -1), "saved/lazy_waiting"),
        (("lazy_deferred", -1), "saved/lazy_deferred"),
        (("mapped", 0), "mapped/0"),
        (("mapped", 1), "mapped/1"),
        (("mapped_folders", 0), "first"),
        (("mapped_folders", 1), "{day}"),
    ],
    ids=str,
)
def test_a_path_is_rendered_for_each_task_instance(
    finished: Finished, place: tuple[str, int], below: str
) -> None:
    file = finished.folder / below.format(day=finished.day) / "7"

    assert finished.results[place]["saved_outputs"]["7"].removeprefix("file://") == str(file)
    assert file.read_bytes() == b"seven"


def test_mapped_contexts_are_rendered_natively(finished: Finished) -> None:
    assert [finished.context("mapped", index) for index in (0, 1)] == [{"site": 7}, {"site": "south"}]


def test_outputs_are_chosen_by_a_native_list_of_texts(finished: Finished) -> None:
    assert set(finished.results["copied", -1]) == {"7", "result.html"}
    assert (finished.folder / "copied" / finished.day / "7").exists()


@pytest.mark.parametrize("mode", ["poke", "deferred", "started"])
def test_a_sensor_chooses_by_a_native_value(finished: Finished, mode: str) -> None:
    chosen = {finished.results[f"lazy_{kind}", -1]["execution_id"] for kind in ("waiting", "deferred")}

    assert finished.results[f"await_{mode}", -1]["execution_id"] in chosen


def test_a_notebook_with_a_name_of_digits_is_uploaded(finished: Finished) -> None:
    assert finished.results["uploaded", -1]["name"] == "2024"
    assert finished.results["uploaded", -1]["uploaded"]
