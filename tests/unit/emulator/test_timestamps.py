# SPDX-License-Identifier: Apache-2.0
"""Formatting and parsing of timestamps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_losant.emulator.state.timestamps import (
    format_timestamp,
    parse_relative_to,
    parse_timestamp,
)

NOW = 1_770_000_000.0


def test_timestamps_are_formatted_in_utc_with_milliseconds() -> None:
    assert format_timestamp(1_465_790_340.5) == "2016-06-13T03:59:00.500Z"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, NOW),
        (0, NOW),
        (-60_000, NOW - 60),
        (1_465_790_340, 1_465_790_340),
        (1_465_790_340_500, 1_465_790_340.5),
        ("2016-06-13T03:59:00.500Z", 1_465_790_340.5),
        ("2016-06-13T05:59:00.500+02:00", 1_465_790_340.5),
        ("2016-06-13T03:59:00", 1_465_790_340),
        ("2016-06-13", 1_465_776_000),
        ("Mon, 13 Jun 2016 03:59:00 GMT", 1_465_790_340),
        ({"$date": "2016-06-13T03:59:00Z"}, 1_465_790_340),
        ("yesterday", None),
        ("", None),
        (1e300, None),
    ],
)
def test_query_times_are_parsed_as_by_losant(value: Any, expected: float | None) -> None:
    assert parse_relative_to(value, NOW) == expected


@given(st.integers(0, 4_000_000_000_000))
def test_a_formatted_timestamp_is_parsed_to_the_same_millisecond(milliseconds: int) -> None:
    assert parse_timestamp(format_timestamp(milliseconds / 1000)) == milliseconds / 1000
