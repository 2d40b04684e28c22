# SPDX-License-Identifier: Apache-2.0
"""An entry of an odd shape in the execution log has no effect on those who do not want it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_losant.api.errors import ProtocolError
from airflow_provider_losant.api.execution_log import ExecutionLog
from airflow_provider_losant.api.model import UNREADABLE, Execution
from tests.support.factories import APPLICATION_ID, CREATED_AT, NOTEBOOK_ID, entry, execution_id_at, iso

ODD: list[Any] = [
    entry("errored", execution_id_at(50), executionErrors=["boom", "bang"]),
    entry("completed", execution_id_at(49), outputInfo={"a.csv": {"size": "7 bytes"}}),
    {"status": "completed", "templateContext": "{}"},
    "not an object",
    None,
    7,
    ["a", "list"],
    {"id": 7},
    {"id": ["x"], "status": "queued"},
    {"id": "not an id", "status": 7},
    entry("completed", execution_id_at(48), runQueuedAt="yesterday"),
    entry("completed", execution_id_at(47), runQueuedAt=1_700_000_000_000),
    entry("completed", execution_id_at(46), runQueuedAt="9999-12-31T23:59:59-14:00"),
    entry("completed", "0" * 24, runQueuedAt="0001-01-01T00:00:00+14:00"),
]
OWN = entry("inProgress", execution_id_at(1), templateContext='{"site": "north"}')


def summaries(log: ExecutionLog) -> dict[str, Execution]:
    return {it.ref.execution_id: it for it in log.summaries(APPLICATION_ID, NOTEBOOK_ID)}


@pytest.mark.parametrize("odd", ODD, ids=lambda it: repr(it)[:60])
def test_an_odd_entry_hides_no_other(odd: Any) -> None:
    for log in (ExecutionLog([odd, OWN]), ExecutionLog([OWN, odd])):
        own = summaries(log)[execution_id_at(1)]

        assert len(log) == 2
        assert log.complete(own) == Execution.from_api(OWN)
        assert log.find(execution_id_at(1)) == Execution.from_api(OWN)
        assert Execution.from_api(OWN) in [it for _, it in log.parse()]


def test_each_odd_entry_has_an_error_but_all_without_an_id_have_one_together() -> None:
    errors = [name for name, it in ExecutionLog(ODD).parse() if isinstance(it, ProtocolError)]

    assert errors.count("") == 1
    assert {execution_id_at(number) for number in (46, 47, 48, 49, 50)} <= set(errors)


def test_an_execution_is_found_by_its_marker_fields_even_if_the_others_are_odd() -> None:
    odd = OWN | {"executionErrors": ["boom"], "outputInfo": {"a": {"size": "7"}}, "applicationId": 3}
    log = ExecutionLog([odd])
    found = summaries(log)[execution_id_at(1)]

    assert (found.status.name, found.template_context) == ("inProgress", '{"site": "north"}')
    assert found.queued_time == CREATED_AT + 1
    assert log.complete(found) is found


def test_an_execution_whose_status_is_odd_may_be_active() -> None:
    found = summaries(ExecutionLog([OWN | {"status": 7}]))[execution_id_at(1)]

    assert found.status is UNREADABLE
    assert found.status.is_active
    assert found.status.can_reconnect


def test_an_id_in_capital_letters_is_found_as_losant_returns_ids_elsewhere() -> None:
    log = ExecutionLog([entry("completed", execution_id_at(1).upper())])

    assert execution_id_at(1) in log
    assert log.find(execution_id_at(1)) == Execution.from_api(entry("completed", execution_id_at(1)))


@pytest.mark.parametrize(
    ("oldest", "reaches_back"),
    [
        (entry(execution_id=execution_id_at(-1)), True),
        (entry(execution_id=execution_id_at(0)), False),
        (entry(execution_id=execution_id_at(5), runQueuedAt=iso(0)), False),
        (entry(execution_id="0" * 24, runQueuedAt=iso(CREATED_AT + 5)), False),
        (entry(execution_id="0" * 24, runQueuedAt=iso(0)), False),
        (entry(execution_id=execution_id_at(5), runQueuedAt="9999-12-31T23:59:59Z"), False),
        (None, False),
    ],
    ids=["older", "not older", "absurd time", "absurd id", "both absurd", "far future", "not an object"],
)
def test_a_log_reaches_back_if_its_oldest_entry_is_older(oldest: Any, reaches_back: bool) -> None:
    log = ExecutionLog([entry(execution_id=execution_id_at(9)), oldest])

    assert log.reaches_back_to(CREATED_AT) is reaches_back
    assert not ExecutionLog([]).reaches_back_to(CREATED_AT)
