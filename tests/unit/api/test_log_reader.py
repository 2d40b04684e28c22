# SPDX-License-Identifier: Apache-2.0
"""Which ``limit`` a request for the log has, and when a log is complete."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from airflow_provider_losant.api.errors import (
    BadRequest,
    Forbidden,
    LogIncomplete,
    ResponseTooLarge,
    ServerError,
    TransportError,
)
from airflow_provider_losant.api.execution_log import ExecutionLog
from airflow_provider_losant.api.flows.log_reader import (
    FIRST_LIMIT,
    MAX_LIMIT,
    WHOLE_LOG,
    LogLimit,
    LogReading,
    read_log,
)
from tests.support.factories import APPLICATION_ID, CREATED_AT, NOTEBOOK_ID, entry, execution_id_at
from tests.unit.api.flow_driver import FlowDriver

REFUSED = BadRequest(400, "Validation", "limit is too large")


class Losant:
    """
    Has a log of entries that are one second apart, newest first.

    :param count: The number of entries; the oldest was queued at ``CREATED_AT``.
    :param cap: The most entries in a response, whatever ``limit`` is.
    :param refuses_above: The highest limit that is accepted.
    :param too_large_from: The entries with which a response is too large.
    """

    def __init__(
        self, count: int, *, cap: float = inf, refuses_above: float = inf, too_large_from: float = inf
    ) -> None:
        self.entries: list[Any] = [
            entry("completed", execution_id_at(number)) for number in reversed(range(count))
        ]
        self.cap, self.refuses_above, self.too_large_from = cap, refuses_above, too_large_from
        self.driver = FlowDriver([self.respond])

    def respond(self, call: Any) -> Any:
        limit, since = int(call.query["limit"]), float(call.query.get("since", "0")) / 1000
        if limit > self.refuses_above:
            return REFUSED
        listed = [it for it in self.entries if int(it["id"][:8], 16) >= since][: int(min(limit, self.cap))]
        return ResponseTooLarge("too large") if len(listed) >= self.too_large_from else ExecutionLog(listed)

    def read(
        self, back_to: float = CREATED_AT - 60, limit: LogLimit | None = None, **more: Any
    ) -> LogReading:
        flow = read_log(APPLICATION_ID, NOTEBOOK_ID, back_to=back_to, limit=limit or LogLimit(), **more)
        return self.driver.drive(flow)

    @property
    def limits(self) -> list[int]:
        return [int(call.query["limit"]) for call in self.driver.calls]


def test_a_short_log_is_complete_after_one_request() -> None:
    losant = Losant(7)

    reading = losant.read()

    assert (len(reading.log), reading.is_complete, losant.limits) == (7, True, [FIRST_LIMIT])


def test_the_limit_grows_while_a_full_response_may_hide_an_execution() -> None:
    losant = Losant(1_203)

    reading = losant.read()

    assert (len(reading.log), reading.is_complete) == (1_203, True)
    assert losant.limits == [20, 160, 1_280]


def test_a_log_that_reaches_back_far_enough_is_complete_whatever_its_size() -> None:
    losant = Losant(1_203)

    assert losant.read(back_to=CREATED_AT + 1_190, since=WHOLE_LOG).is_complete
    assert losant.limits == [20]
    assert "since" not in losant.driver.calls[0].query


def test_a_log_that_goes_on_is_complete_if_it_reaches_back_as_far_as_is_needed() -> None:
    losant = Losant(MAX_LIMIT + 1)

    assert losant.read(needed_from=CREATED_AT + 60).is_complete
    assert losant.limits == [20, 160, 1_280, MAX_LIMIT]


def test_no_more_is_read_when_a_response_has_what_is_wanted() -> None:
    losant = Losant(1_203)

    reading = losant.read(is_enough=lambda log: execution_id_at(1_100) in log)

    assert execution_id_at(1_100) in reading.log
    assert losant.limits == [20, 160]


def test_a_log_longer_than_the_longest_limit_is_incomplete() -> None:
    losant = Losant(MAX_LIMIT + 1)

    reading = losant.read()

    assert not reading.is_complete
    assert losant.limits == [20, 160, 1_280, MAX_LIMIT]
    with pytest.raises(
        LogIncomplete, match=r"could not be read back to .*: Losant returned only its latest 10,000 entries"
    ):
        reading.check_complete()


@pytest.mark.parametrize("cap", [30, 50, 100, 200, 250, 500, 1_000, 2_000, 5_000])
def test_a_silent_cap_makes_a_log_incomplete(cap: int) -> None:
    losant = Losant(6_000, cap=cap)

    reading = losant.read(limit=LogLimit(30 if cap == 30 else FIRST_LIMIT))

    assert (len(reading.log), reading.is_complete) == (cap, False)


def test_a_capped_log_that_reaches_back_far_enough_is_complete() -> None:
    assert Losant(6_000, cap=100).read(back_to=CREATED_AT + 5_950, since=WHOLE_LOG).is_complete


def test_a_response_of_a_round_size_is_no_cap_once_another_has_had_more_entries() -> None:
    losant, limit = Losant(120), LogLimit()
    losant.read(limit=limit)
    losant.entries = losant.entries[:100]

    assert losant.read(limit=limit).is_complete


def test_a_small_log_of_a_round_size_is_complete() -> None:
    assert all(Losant(count).read().is_complete for count in (1, 5, 10, 25, 30, 49, 51, 99))


@pytest.mark.parametrize("highest", [20, 50, 100, 199, 200, 500, 1_000])
def test_a_refused_limit_is_lowered_to_one_that_losant_accepts(highest: int) -> None:
    losant, limit = Losant(6_000, refuses_above=highest), LogLimit()

    reading = losant.read(limit=limit)

    assert len(reading.log) == max(it for it in (20, 50, 100, 200, 500, 1_000) if it <= highest)
    assert not reading.is_complete
    losant.driver.calls.clear()
    losant.read(limit=limit)
    assert all(it <= highest for it in losant.limits)


def test_a_refused_limit_does_not_make_a_short_log_incomplete() -> None:
    losant = Losant(180, refuses_above=200)

    assert losant.read(limit=LogLimit(100)).is_complete
    assert losant.limits == [100, 800, 500, 250, 200]


def test_a_response_that_is_too_large_is_requested_with_a_lower_limit() -> None:
    losant = Losant(6_000, too_large_from=1_100)

    reading = losant.read()

    assert (len(reading.log), reading.is_complete) == (1_000, False)


def test_an_error_that_no_limit_avoids_is_raised_and_lowers_no_later_limit() -> None:
    limit = LogLimit(100)
    driver = FlowDriver([REFUSED])

    with pytest.raises(BadRequest):
        driver.drive(read_log(APPLICATION_ID, NOTEBOOK_ID, back_to=CREATED_AT, limit=limit))

    assert [int(call.query["limit"]) for call in driver.calls] == [100, 50, 20]
    assert limit.next_limit(at_least=5_000) == 5_000


@pytest.mark.parametrize("error", [Forbidden(403, "", "no"), ServerError(503, "", "away")], ids=str)
def test_another_error_is_raised_at_once(error: Exception) -> None:
    driver = FlowDriver([error])

    with pytest.raises(type(error)):
        driver.drive(read_log(APPLICATION_ID, NOTEBOOK_ID, back_to=CREATED_AT, limit=LogLimit()))
    assert len(driver.calls) == 1


def test_a_failed_request_is_retried_if_so_wanted() -> None:
    driver = FlowDriver([TransportError("lost"), ExecutionLog([])])

    driver.drive(read_log(APPLICATION_ID, NOTEBOOK_ID, back_to=CREATED_AT, limit=LogLimit(), retries=1))

    assert len(driver.calls) == 2


def test_the_limit_that_a_log_needed_is_the_first_of_the_next_reading() -> None:
    losant, limit = Losant(1_203), LogLimit()
    losant.read(limit=limit)
    losant.read(limit=limit)
    limit.reset()
    losant.read(limit=limit, is_enough=lambda _: True)

    assert losant.limits == [20, 160, 1_280, 1_280, 20]


def test_a_reading_can_be_given_up() -> None:
    losant = Losant(6_000)

    assert not losant.read(give_up_when=lambda: len(losant.limits) == 2).is_complete
    assert losant.limits == [20, 160]


def test_entries_of_an_odd_shape_count_but_hide_nothing() -> None:
    losant = Losant(60)
    losant.entries[5:5] = [{"status": 7}, "odd", {"id": 5}] * 7

    losant.driver = FlowDriver([lambda call: ExecutionLog(losant.entries[: int(call.query["limit"])])])
    reading = losant.read()

    assert (len(reading.log), len(reading.log.ids), reading.is_complete) == (81, 60, True)
