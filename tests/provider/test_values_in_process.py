# SPDX-License-Identifier: Apache-2.0
"""One DAG run by Airflow itself in this process: values in templates, branches and mapped tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_losant.emulator import Emulator, Script
from tests.provider.conftest import IN_AIRFLOW_DATABASE, dag_bundle, set_connection

pytestmark = [*IN_AIRFLOW_DATABASE]

DAGS = Path(__file__).parent / "dags"
VALUES: dict[str, Any] = {"limit": 42.5, "sites": ["Köln", "{{ ds }}"]}
MODES = ("poke", "reschedule", "deferred", "started")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """States, results and values after the DAG run."""

    states: Mapping[tuple[str, int], str]
    results: Mapping[tuple[str, int], Any]
    values: Mapping[tuple[str, int], Any]
    contexts: Mapping[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def finished(airflow_db: None) -> Iterator[Finished]:
    with Emulator() as losant, dag_bundle(DAGS) as patch:
        set_connection(patch, losant)
        from tests.provider.dags.values import values

        notebook = losant.add_notebook("Good")
        losant.script(notebook, Script(notebook=0.03, files={"values.json": json.dumps(VALUES).encode()}))
        run = values.test(run_conf={"notebook": notebook, "file": "values.json", "nothing": ""})
        tasks = {(ti.task_id, ti.map_index): ti for ti in run.get_task_instances()}

        def pulled(key: str) -> dict[tuple[str, int], Any]:
            return {
                name: ti.xcom_pull(task_ids=name[0], key=key, map_indexes=None if name[1] < 0 else name[1])
                for name, ti in tasks.items()
            }

        contexts: dict[str, list[dict[str, Any]]] = {}
        for it in losant.requests:
            if it.operation == "notebook.execute":
                context = json.loads(it.body["templateContext"])
                contexts.setdefault(context.pop("airflow")["task_id"], []).append(context)
        yield Finished(
            states={name: str(ti.state) for name, ti in tasks.items()},
            results=pulled("return_value"),
            values=pulled("values"),
            contexts=contexts,
        )


@pytest.mark.parametrize(
    "task_id", ["run_waiting", "run_deferred", "decorated", *(f"await_{mode}" for mode in MODES)]
)
def test_every_way_to_wait_for_a_notebook_returns_its_values(finished: Finished, task_id: str) -> None:
    assert finished.states[task_id, -1] == "success"
    assert finished.results[task_id, -1]["values"] == finished.values[task_id, -1] == VALUES


def test_a_task_whose_template_renders_to_nothing_reads_nothing(finished: Finished) -> None:
    assert finished.states["fire", -1] == "success"
    assert "values" not in finished.results["fire", -1]


def test_the_next_notebook_gets_the_values_as_they_are(finished: Finished) -> None:
    assert finished.contexts["next_all"] == [VALUES]
    assert finished.contexts["next_text"] == [{"limit": "42.5"}]
    assert finished.contexts["next_number"] == [{"limit": 42.5}]


def test_a_value_chooses_a_branch(finished: Finished) -> None:
    assert (finished.states["above", -1], finished.states["below", -1]) == ("success", "skipped")


def test_there_is_a_mapped_task_for_each_value(finished: Finished) -> None:
    sites = [context["site"] for context in finished.contexts["each"]]

    assert sorted(sites) == sorted(VALUES["sites"])
    assert [finished.values["each", index] for index in (0, 1)] == [VALUES, VALUES]
