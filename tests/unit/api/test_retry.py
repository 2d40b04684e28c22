# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of retries."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_losant.api.flows.retry import MAX_RETRY_AFTER, backoff, retry_after
from tests.support.factories import few_examples

NOON = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


def maximum(_: float, top: float) -> float:
    return top


@pytest.mark.parametrize(("attempt", "top"), [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (50, 60.0)])
def test_pauses_double_up_to_a_cap(attempt: int, top: float) -> None:
    assert backoff(attempt, jitter=maximum) == top


@few_examples
@given(st.integers(min_value=1, max_value=10**6), st.floats(min_value=0.0, max_value=1.0))
def test_a_pause_is_bounded_however_many_attempts_have_failed(attempt: int, jitter_value: float) -> None:
    assert 0.0 <= backoff(attempt, cap=20.0, jitter=lambda low, top: low + jitter_value * (top - low)) <= 20.0


@few_examples
@given(st.integers(min_value=1, max_value=20), st.floats(min_value=0.0, max_value=100.0))
def test_no_retry_comes_before_retry_after(attempt: int, floor: float) -> None:
    assert backoff(attempt, floor=floor) >= floor


def test_clients_that_failed_together_do_not_retry_together() -> None:
    assert len({backoff(5) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Sun, 21 Oct 2040 07:28:30 GMT", MAX_RETRY_AFTER),
        ("9" * 400, MAX_RETRY_AFTER),
        ("Wed Oct 21 07:28:30 2015", 30.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ("", None),
        (None, None),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
        ("²", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_parsed_in_both_of_its_forms(header: str | None, expected: float | None) -> None:
    assert retry_after(header, clock=lambda: NOON) == expected


@pytest.mark.parametrize("skew", [-600.0, 0.0, 600.0])
def test_a_retry_after_date_is_relative_to_the_servers_clock(skew: float) -> None:
    later, now = "Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT"

    assert retry_after(later, now, clock=lambda: NOON + skew) == 30.0
    assert retry_after(later, "nonsense", clock=lambda: NOON) == 30.0


@pytest.fixture
def another_time_zone() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    yield
    del os.environ["TZ"]
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def test_a_date_without_a_time_zone_is_utc_in_every_local_time_zone(another_time_zone: None) -> None:
    assert retry_after("Wed Oct 21 07:28:30 2015", clock=lambda: NOON) == 30.0


@few_examples
@given(st.text())
def test_no_header_raises(header: str) -> None:
    pause = retry_after(header)

    assert pause is None or pause >= 0.0
