# SPDX-License-Identifier: Apache-2.0
"""Hundreds of waits for any execution since a time share one parse of a long log, in short steps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_losant.api.execution_log import SLICE, ExecutionLog
from airflow_provider_losant.api.flows.completions import Checkpoint, CompletionFeed
from airflow_provider_losant.api.flows.skipped_entries import MAX_REPORTED
from airflow_provider_losant.api.flows.wait import Target, Wait, WaitConfig
from airflow_provider_losant.api.model import Execution
from tests.support.factories import (
    APPLICATION_ID,
    CREATED_AT,
    NOTEBOOK_ID,
    entry,
    execution_id_at,
    few_examples,
    iso,
)
from tests.unit.api.long_log import ENTRIES, NOW, WAITS, poll


class CountingEntry(dict[str, Any]):
    """An entry that counts how often it is parsed: only a parse of the whole entry reads this field."""

    parses = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.parses += key == "maxAllowedRunMinutes"
        return super().get(key, default)


def long_log(**changes: Any) -> list[CountingEntry]:
    """Return executions of which one was queued in each second, and ended after three."""
    return [
        CountingEntry(
            entry(
                "completed",
                execution_id_at(second),
                runQueuedAt=iso(CREATED_AT + second),
                outputsCompletedAt=iso(CREATED_AT + second + 3),
                **changes,
            )
        )
        for second in range(ENTRIES, 0, -1)
    ]


def wait(since: float, execution_id: str | None = None) -> Wait:
    target = Target(
        application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, execution_id=execution_id, since=since
    )
    return Wait(target, WaitConfig(poll_interval=20.0, deadline=NOW + 3_600, max_poll_outage=600.0))


def test_each_entry_is_parsed_once_for_all_waits_in_slices() -> None:
    entries = long_log()
    waits = [wait(CREATED_AT + 9 * number) for number in range(WAITS)]

    driver = poll(entries, *waits)

    assert {it.parses for it in entries} == {1}
    assert driver.sleeps.count(0.0) >= ENTRIES / SLICE
    assert len(driver.calls) == 2
    found = [it.execution.ref.execution_id for it in waits if it.execution is not None]
    assert found == [execution_id_at(max(1, 9 * number)) for number in range(WAITS)]


def test_an_event_trigger_and_waits_of_both_kinds_share_the_parse() -> None:
    entries = long_log()
    feed = CompletionFeed(
        APPLICATION_ID,
        NOTEBOOK_ID,
        statuses=["completed"],
        poll_interval=60.0,
        now=NOW,
        checkpoint=Checkpoint(since=CREATED_AT),
    )
    by_id = [wait(CREATED_AT, execution_id_at(number)) for number in range(1, 51)]
    any_since = [wait(CREATED_AT + number) for number in range(50)]

    poll(entries, *by_id, feed, *any_since)

    assert {it.parses for it in entries} == {1}
    assert {it.ending for it in (*by_id, *any_since)} == {"ended"}


def test_waits_for_an_id_alone_parse_no_other_entry() -> None:
    entries = long_log()

    poll(entries, *(wait(CREATED_AT, execution_id_at(number)) for number in range(1, 51)))

    assert sum(it.parses for it in entries) == 50


def test_of_thousands_of_unreadable_entries_each_wait_reports_a_few() -> None:
    entries = long_log(outputInfo={"a.csv": {"size": "7 bytes"}})
    ended = entry("completed", execution_id_at(ENTRIES + 1), outputsCompletedAt=iso(NOW))
    waits = [wait(CREATED_AT) for _ in range(WAITS)]

    poll([ended, *entries], *waits)

    assert {it.parses for it in entries} == {1}
    assert {it.ending for it in waits} == {"ended"}
    # And a line for the execution that it waited for.
    assert {len(it.drain_logs()) for it in waits} == {MAX_REPORTED + 2}


def test_an_id_of_megabytes_does_not_reach_the_log() -> None:
    one = wait(CREATED_AT)

    poll([{"id": "x" * 10**6}, *long_log()[:5]], one)

    assert max(len(line.text) for line in one.drain_logs()) < 2_000


@pytest.mark.parametrize("many", [0, 1, SLICE - 1, SLICE, SLICE + 1, 3 * SLICE])
def test_a_log_of_any_length_is_parsed_to_its_end(many: int) -> None:
    entries = long_log()[:many]
    log, slices = ExecutionLog(entries), 1

    while not log.parse_slice():
        slices += 1

    assert sum(it.parses for it in entries) == many
    assert slices == many // SLICE + 1


@few_examples
@given(data=st.data())
def test_the_first_to_end_is_that_of_a_plain_search(data: st.DataObject) -> None:
    seconds = st.integers(0, 12)
    entries = [
        entry(
            data.draw(st.sampled_from(["completed", "errored", "inProgress"])),
            execution_id_at(number),
            runQueuedAt=iso(CREATED_AT + (queued := data.draw(seconds))),
            outputsCompletedAt=iso(CREATED_AT + queued + data.draw(seconds)),
        )
        for number in range(data.draw(st.integers(0, 12)))
    ]
    log, since = ExecutionLog(entries), CREATED_AT + data.draw(st.integers(-1, 14))

    readable = [it for _, it in log.parse() if isinstance(it, Execution)]
    ended = [it for it in readable if it.status.is_final and it.queued_time >= since]
    expected = min(ended, key=lambda it: (it.last_event_time, it.queued_time), default=None)

    assert len(readable) == len(entries)
    assert log.first_to_end(since) is expected
