# SPDX-License-Identifier: Apache-2.0
"""The marker by which a task finds its executions again, and does not take those of others for its own."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_losant.api.flows.ownership import (
    MARKER_KEY,
    Owner,
    format_start,
    read_marker,
    replaced_ids,
)
from tests.support.factories import execution, few_examples, owner

if TYPE_CHECKING:
    from airflow_provider_losant.api.model import Execution

OWNER = owner(map_index=2)
LATER = "2026-01-02T00:00:00+00:00"


def execution_of(owner: Owner, **context: Any) -> Execution:
    return execution(templateContext=json.dumps(owner.add_marker(context)))


def execution_with(marker: Any) -> Execution:
    return execution(templateContext=json.dumps({MARKER_KEY: marker}))


# -- the owner's own executions -----------------------------------------------------------------------------


def test_an_owner_owns_the_execution_of_each_of_its_tries() -> None:
    assert OWNER.owns(execution_of(OWNER, site="north"))
    assert OWNER.owns(execution_of(replace(OWNER, try_number=2)))
    assert not OWNER.owns_older(execution_of(replace(OWNER, try_number=2)))
    assert not replace(OWNER, try_number=2).owns_older(execution_of(OWNER))


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
        {"region": "01a222ef-95d2-7255-9cd4-3ae312a41445/1", "loop_index": 1},
        {"max_tries": 4},
        {"dag_run_start": LATER},
        {"dag_run_start": ""},
    ],
    ids=str,
)
def test_an_execution_of_another_owner_is_not_owned(changed: dict[str, Any]) -> None:
    other = replace(OWNER, **changed)

    assert not OWNER.owns(execution_of(other))
    assert not other.owns(execution_of(OWNER))


@pytest.mark.parametrize(
    "changed", [{"may_sweep": False}, {"deployment": "https://renamed.example"}], ids=str
)
def test_a_change_of_settings_between_two_tries_keeps_the_owner(changed: dict[str, Any]) -> None:
    second = replace(OWNER, try_number=2, **changed)

    assert second.owns(execution_of(OWNER))
    assert second.is_of_try(execution_of(OWNER), 1)


def test_without_the_start_of_the_dag_run_the_deployment_is_part_of_the_owner() -> None:
    unknown = replace(OWNER, dag_run_start="")

    assert unknown.owns(execution_of(replace(unknown, try_number=2)))
    assert not unknown.owns(execution_of(replace(unknown, deployment="https://staging.example")))
    assert not unknown.owns(execution_of(replace(unknown, deployment="")))


@few_examples
@given(st.text(), st.text(), st.text())
def test_names_that_are_equal_when_joined_have_different_owners(dag: str, task: str, run: str) -> None:
    first = replace(OWNER, dag_id=dag, task_id=f"{task}.{run}", run_id="")
    second = replace(OWNER, dag_id=f"{dag}.{task}", task_id=run, run_id="")
    are_equal = (first.dag_id, first.task_id, first.run_id) == (second.dag_id, second.task_id, second.run_id)

    assert first.owns(execution_of(second)) is are_equal


# -- after a clear, or in a DAG run that was created again --------------------------------------------------


@pytest.mark.parametrize(
    "cleared",
    [{"max_tries": 4}, {"max_tries": 5, "dag_run_start": LATER}, {"dag_run_start": LATER}],
    ids=["DAG run still running", "DAG run had ended", "DAG run had ended, and one retry fewer"],
)
def test_a_clear_starts_a_new_owner_of_the_same_task(cleared: dict[str, Any]) -> None:
    later = replace(OWNER, try_number=2, **cleared)

    assert not later.owns(execution_of(OWNER))
    assert later.owns_older(execution_of(OWNER))
    assert not OWNER.owns_older(execution_of(later))


def test_a_dag_run_that_was_deleted_and_created_again_has_new_owners() -> None:
    again = replace(OWNER, dag_run_start=LATER)

    assert not again.owns(execution_of(OWNER))
    assert again.owns_older(execution_of(OWNER))
    assert not OWNER.owns_older(execution_of(again))


def test_the_tries_of_a_deleted_dag_run_are_not_those_before_a_clear() -> None:
    deleted = execution_of(OWNER)
    again = replace(OWNER, try_number=2, dag_run_start=LATER)
    cleared = replace(again, max_tries=4)

    assert cleared.owns_before_clear(deleted)
    assert cleared.is_of_try(deleted, 1)
    assert again.owns_older(deleted)
    assert not again.owns_before_clear(deleted)
    assert not again.is_of_try(deleted, 1)


def test_a_clear_in_a_running_dag_run_goes_on_with_the_tries_before_it() -> None:
    cleared = replace(OWNER, try_number=2, max_tries=2)

    assert cleared.owns_before_clear(execution_of(OWNER))
    assert cleared.is_of_try(execution_of(OWNER), 1)
    assert not cleared.owns_before_clear(execution_of(replace(cleared, try_number=1)))
    assert not OWNER.owns_before_clear(execution_of(cleared))


@pytest.mark.parametrize("deployment", ["https://staging.example", ""])
def test_what_another_deployment_started_is_never_older_of_the_same_task(deployment: str) -> None:
    """Two deployments run the same DAG run, which began at different times."""
    second = replace(OWNER, try_number=2, max_tries=4, dag_run_start=LATER)

    assert not second.owns_older(execution_of(replace(OWNER, deployment=deployment)))
    assert not replace(second, deployment=deployment).owns_older(execution_of(OWNER))
    assert not second.is_of_try(execution_of(replace(OWNER, deployment=deployment)), 1)


def test_without_a_deployment_only_the_same_dag_run_start_shows_what_is_older() -> None:
    first = replace(OWNER, deployment="")
    cleared = replace(first, try_number=2, max_tries=4)

    assert cleared.owns_older(execution_of(first))
    assert not replace(cleared, dag_run_start=LATER).owns_older(execution_of(first))


def test_without_the_start_of_the_dag_run_and_a_deployment_nothing_is_older() -> None:
    first = replace(OWNER, dag_run_start="")
    cleared = replace(first, try_number=2, max_tries=4)

    assert cleared.owns_older(execution_of(first))
    assert not replace(cleared, deployment="").owns_older(execution_of(replace(first, deployment="")))
    assert not cleared.owns_older(execution_of(replace(first, deployment="https://staging.example")))


@pytest.mark.parametrize(
    "changed", [{"dag_id": "other"}, {"task_id": "other"}, {"run_id": "other"}, {"map_index": 3}], ids=str
)
def test_an_execution_of_another_task_instance_is_not_older(changed: dict[str, Any]) -> None:
    later = replace(OWNER, try_number=2, max_tries=5, dag_run_start=LATER, **changed)

    assert not later.owns_older(execution_of(OWNER))
    assert not later.is_of_try(execution_of(OWNER), 1)


@pytest.mark.parametrize(("number", "is_of_it"), [(1, False), (2, True), (3, False)])
def test_the_execution_of_one_try_is_told_from_those_of_the_others(number: int, *, is_of_it: bool) -> None:
    second = execution_of(replace(OWNER, try_number=2))

    assert replace(OWNER, try_number=3).is_of_try(second, number) is is_of_it
    assert replace(OWNER, try_number=3, max_tries=5).is_of_try(second, number) is is_of_it


# -- the marker -------------------------------------------------------------------------------------------


def test_a_marker_names_the_task_for_the_author_of_the_notebook() -> None:
    marked = OWNER.add_marker({"site": "north"})

    assert marked["site"] == "north"
    assert marked[MARKER_KEY] == asdict(OWNER)
    assert json.loads(json.dumps(marked)) == marked


def test_a_marker_names_the_whole_owner() -> None:
    assert read_marker(execution_of(OWNER)) == OWNER


@pytest.mark.parametrize(
    "context",
    [None, "", "not json", "5", "[]", "null", '{"a": 1}', '{"airflow": "mine"}', '{"airflow": null}', "{}"],
)
def test_an_execution_without_a_marker_has_no_owner(context: str | None) -> None:
    parsed = execution(templateContext=context)

    assert read_marker(parsed) is None
    assert replaced_ids(parsed) == []
    assert not OWNER.owns(parsed)
    assert not OWNER.owns_older(parsed)
    assert not OWNER.is_of_try(parsed, 1)


ODD = (None, 5, 5.0, True, "x", ["x"], {"x": 1})


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize("name", [it.name for it in fields(Owner)])
def test_a_marker_with_a_field_of_another_type_has_no_owner(name: str, odd: Any) -> None:
    usual = asdict(OWNER)
    parsed = execution_with({**usual, name: odd})

    assert (read_marker(parsed) is None) is (type(odd) is not type(usual[name]))
    if type(odd) is not type(usual[name]):
        assert not OWNER.owns(parsed)
        assert not replace(OWNER, max_tries=9, try_number=9).owns_older(parsed)
        assert not OWNER.is_of_try(parsed, 1)


ADDED_LATER = {"region", "loop_index"}


@pytest.mark.parametrize("name", sorted({it.name for it in fields(Owner)} - ADDED_LATER))
def test_a_marker_without_one_of_its_fields_has_no_owner(name: str) -> None:
    marker = {key: value for key, value in asdict(OWNER).items() if key != name}

    assert read_marker(execution_with(marker)) is None


def test_the_marker_of_an_earlier_version_is_that_of_a_task_outside_loops() -> None:
    marker = {key: value for key, value in asdict(OWNER).items() if key not in ADDED_LATER}

    assert OWNER.owns(execution_with(marker))
    assert not replace(OWNER, region="an iteration").owns(execution_with(marker))


def test_further_fields_of_a_marker_are_ignored() -> None:
    marker = {**asdict(OWNER), "openlineage": {}, "later": [1], "replaces": 5, "owner": None}

    assert read_marker(execution_with(marker)) == OWNER
    assert OWNER.owns(execution_with(marker))


@pytest.mark.parametrize(
    ("listed", "ids"),
    [
        (["a", "b"], ["a", "b"]),
        ([], []),
        ("ab", []),
        (None, []),
        ({"a": 1}, []),
        (["a", 5, None, ["b"]], ["a"]),
    ],
    ids=str,
)
def test_replaced_executions_are_read_from_a_list_of_texts_only(listed: Any, ids: list[str]) -> None:
    assert replaced_ids(execution_with({**asdict(OWNER), "replaces": listed})) == ids


@few_examples
@given(st.text())
def test_any_context_can_be_searched_for_a_marker(context: str) -> None:
    parsed = execution(templateContext=context)

    assert not OWNER.owns(parsed)
    assert not OWNER.owns_older(parsed)


def test_the_start_of_a_dag_run_is_the_same_text_in_every_time_zone() -> None:
    started = datetime(2026, 1, 1, 12, 30, 5, 123456, tzinfo=UTC)

    assert format_start(started) == "2026-01-01T12:30:05.123456+00:00"
    assert format_start(started.astimezone(timezone(timedelta(hours=9)))) == format_start(started)
    assert format_start(None) == ""
