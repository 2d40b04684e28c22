# SPDX-License-Identifier: Apache-2.0
"""The marker by which a task finds its execution again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_losant.api.flows.ownership import MARKER_KEY, Owner, read_marker
from tests.support.factories import execution, few_examples

OWNER = Owner(
    dag_id="energy",
    task_id="report",
    run_id="scheduled__2026-01-01",
    map_index=2,
    try_number=1,
    max_tries=3,
    dag_run_start="2026-01-01T00:00:00+00:00",
    deployment="https://airflow.example",
)


def execution_of(owner: Owner, **context: Any) -> Any:
    return execution(templateContext=json.dumps(owner.add_marker(context)))


def test_an_owner_owns_the_execution_of_each_of_its_tries() -> None:
    assert OWNER.owns(execution_of(OWNER, site="north"))
    assert OWNER.owns(execution_of(replace(OWNER, try_number=2)))
    assert not OWNER.owns_older(execution_of(replace(OWNER, try_number=2)))


def test_a_clear_starts_a_new_owner_of_the_same_task() -> None:
    cleared = replace(OWNER, max_tries=5)

    assert not cleared.owns(execution_of(OWNER))
    assert cleared.owns_older(execution_of(OWNER))


def test_a_try_of_a_deleted_dag_run_is_not_taken_for_one_of_the_dag_run_that_replaced_it() -> None:
    retry = replace(OWNER, try_number=2, dag_run_start="2026-01-01T06:00:00+00:00")
    cleared = replace(retry, max_tries=4)

    assert not retry.is_of_try(execution_of(OWNER), 1)
    assert retry.is_of_try(execution_of(replace(retry, try_number=1)), 1)
    assert cleared.is_of_try(execution_of(OWNER), 1)


@pytest.mark.parametrize(
    "changed",
    [
        {"dag_id": "other"},
        {"task_id": "other"},
        {"run_id": "manual__2026-01-01"},
        {"map_index": 3},
        {"deployment": "https://staging.example"},
        {"max_tries": 4},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_an_execution_of_another_owner_is_not_owned(changed: dict[str, Any]) -> None:
    second = replace(OWNER, **changed)

    assert not OWNER.owns(execution_of(second))
    assert OWNER.owns_older(execution_of(second)) is ("max_tries" in changed)


def test_a_marker_names_the_task_for_the_author_of_the_notebook() -> None:
    marked = OWNER.add_marker({"site": "north"})

    assert marked["site"] == "north"
    assert marked[MARKER_KEY].items() >= {
        "dag_id": "energy", "task_id": "report", "run_id": "scheduled__2026-01-01", "map_index": 2,
        "try_number": 1,
    }.items()  # fmt: skip
    assert json.loads(json.dumps(marked)) == marked


@pytest.mark.parametrize(
    "context",
    [None, "", "not json", "5", "[]", "null", '{"a": 1}', '{"airflow": "mine"}', '{"airflow": null}', "{}"],
)
def test_an_execution_without_a_marker_has_no_owner(context: str | None) -> None:
    parsed = execution(templateContext=context)

    assert read_marker(parsed) == {}
    assert not OWNER.owns(parsed)
    assert not OWNER.owns_older(parsed)


@few_examples
@given(st.text())
def test_any_context_can_be_searched_for_a_marker(context: str) -> None:
    parsed = execution(templateContext=context)

    assert not OWNER.owns(parsed)
    assert not OWNER.owns_older(parsed)


@few_examples
@given(st.text(), st.text(), st.text())
def test_names_that_are_equal_when_joined_have_different_owners(dag: str, task: str, run: str) -> None:
    first = replace(OWNER, dag_id=dag, task_id=f"{task}.{run}", run_id="")
    second = replace(OWNER, dag_id=f"{dag}.{task}", task_id=run, run_id="")

    assert first.task_id_hash != second.task_id_hash or (first.dag_id, first.task_id) == (
        second.dag_id,
        second.task_id,
    )
