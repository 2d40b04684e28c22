# SPDX-License-Identifier: Apache-2.0
"""A user's tests of a DAG with mapped tasks, in Airflow's own process, against a local emulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_losant.emulator import Emulator, Script, set_arguments
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.provider.conftest import IN_AIRFLOW_DATABASE, dag_bundle, set_connection
from tests.provider.dags.each_site import NOTEBOOK, SITES, each_site

pytestmark = [*IN_AIRFLOW_DATABASE, pytest.mark.usefixtures("airflow_db")]


@pytest.fixture
def losant(losant: Emulator) -> Iterator[Emulator]:
    losant.add_notebook(notebook_id=NOTEBOOK)
    losant.script(NOTEBOOK, Script(notebook=0.01))
    with dag_bundle(Path(__file__).parent / "dags") as patch:
        set_connection(patch, losant)
        yield losant


# [START test_each_site]
@pytest.fixture
def dag() -> Any:
    """Return the DAG, with shorter waits than in production."""
    made = each_site()
    for task in made.tasks:
        set_arguments(task, deferrable=False, poll_interval=0.1, retries=0)
    return made


def test_each_site_has_an_execution(losant: Emulator, dag: Any) -> None:
    run = dag.test()

    assert run.state == "success"
    contexts = [json.loads(it["templateContext"]) for it in losant.executions(NOTEBOOK)]
    assert {it["site"] for it in contexts if it["airflow"]["task_id"] == "report"} == set(SITES)


def test_a_site_that_fails_does_not_stop_the_others(losant: Emulator, dag: Any) -> None:
    losant.script(NOTEBOOK, Script(ending="errored", errors=(("ValueError", "no data"),)))

    run = dag.test()

    reports = [ti for ti in run.get_task_instances() if ti.task_id == "report"]
    assert {ti.map_index: ti.state for ti in reports} == {0: "failed", 1: "failed", 2: "failed"}
    assert {it["status"] for it in losant.executions(NOTEBOOK)} == {"errored"}


# [END test_each_site]


def test_arguments_of_every_kind_of_task_are_changed(losant: Emulator, dag: Any) -> None:
    run = dag.test()

    assert run.state == "success"
    sites = [json.loads(it["templateContext"])["site"] for it in losant.executions(NOTEBOOK)]
    prefixes = ("", "decorated ", "grouped ")
    assert sorted(sites) == sorted(f"{prefix}{site}" for prefix in prefixes for site in SITES)
    # Nothing was deferred, and the retries of production are off.
    assert {(ti.try_number, ti.max_tries) for ti in run.get_task_instances()} == {(1, 0)}


def test_an_argument_of_production_is_in_force_without_a_change() -> None:
    made: Any = each_site()

    assert made.get_task("report").partial_kwargs["deferrable"] is True
    assert made.get_task("of_site.grouped").deferrable is True


@pytest.mark.parametrize(
    ("task_id", "wrong"),
    [
        ("report", "poll_intervall"),
        ("decorated", "poll_intervall"),
        ("of_site.grouped", "poll_intervall"),
        ("report", "template_context"),  # each mapped task has its own
    ],
)
def test_an_argument_that_cannot_be_changed_is_refused(task_id: str, wrong: str) -> None:
    made: Any = each_site()

    with pytest.raises(TypeError, match=f"The task {task_id} has no argument {wrong}"):
        set_arguments(made.get_task(task_id), **{"timeout": 60, wrong: 1})

    assert getattr(made.get_task(task_id), "partial_kwargs", {}).get("timeout") is None


def test_a_task_that_expands_argument_sets_is_changed_too() -> None:
    made: Any = each_site()
    with made:
        mapped: Any = LosantNotebookExecuteOperator.partial(
            task_id="sets", notebook_id=NOTEBOOK
        ).expand_kwargs([{"template_context": {"site": site}} for site in SITES])

    set_arguments(mapped, poll_interval=0.1)

    assert mapped.partial_kwargs["poll_interval"] == 0.1
