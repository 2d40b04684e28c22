# SPDX-License-Identifier: Apache-2.0
"""Timestamps are parsed strictly, because Losant reads an invalid timestamp as the current time."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.timestamps import (
    format_timestamp,
    parse_seconds,
    parse_timestamp,
    to_milliseconds,
)
from tests.support.factories import few_examples

NEW_YEAR = "2026-01-01T00:00:00.000Z"
FIRST, LAST = datetime(2001, 9, 10), datetime(2200, 1, 1)  # noqa: DTZ001
WHEN = st.datetimes(min_value=FIRST, max_value=LAST, timezones=st.just(UTC))


@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1),  # noqa: DTZ001
        datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        pendulum.datetime(2026, 1, 1),
        pendulum.datetime(2025, 12, 31, 19, tz="America/New_York"),
        date(2026, 1, 1),
        "2026-01-01",
        "20260101",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00+00:00",
        "2026-01-01 00:00:00+00:00",
        "2026-01-01T01:00:00+01:00",
        "2026-01-01T00:00:00.000000+00:00",
        " 2026-01-01T00:00:00Z\n",
        1767225600000,
        1767225600000.0,
        "1767225600000",
    ],
    ids=repr,
)
def test_every_spelling_that_dags_use_is_parsed(value: object) -> None:
    assert format_timestamp(parse_timestamp(value, field="relative_to")) == NEW_YEAR


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        "",
        "None",
        "now",
        "yesterday",
        "2026",
        "2026-13-01",
        "01/02/2026",
        "{{ ds }}",
        "2026-01-01T25:00:00Z",
        1767225600,
        "1767225600",
        "17120101112",
        0,
        -1,
        float("nan"),
        float("inf"),
        10**18,
        "9" * 30,
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59-05:00",
        [],
        {"$date": NEW_YEAR},
        timedelta(days=1),
    ],
    ids=repr,
)
def test_timestamps_that_losant_would_misread_are_refused_with_the_field_name(value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"^relative_to: ") as caught:
        parse_timestamp(value, field="relative_to")

    assert caught.value.field == "relative_to"


@few_examples
@given(WHEN)
def test_a_timestamp_survives_formatting_and_parsing(moment: datetime) -> None:
    spelt = format_timestamp(moment)

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", spelt)
    assert timedelta() <= moment - parse_timestamp(spelt, field="x") < timedelta(milliseconds=1)
    assert format_timestamp(parse_timestamp(spelt, field="x")) == spelt


@few_examples
@given(st.integers(min_value=10**12, max_value=7 * 10**12))
def test_epoch_milliseconds_survive_as_number_and_as_query_parameter(epoch: int) -> None:
    moment = parse_timestamp(epoch, field="x")

    assert moment == parse_timestamp(str(epoch), field="x")
    assert to_milliseconds(moment.timestamp()) == str(epoch)


@few_examples
@given(WHEN)
def test_a_query_parameter_is_never_later_than_its_timestamp(moment: datetime) -> None:
    assert parse_timestamp(to_milliseconds(moment.timestamp()), field="x") <= moment


@pytest.mark.parametrize(("value", "expected"), [(5, 5.0), (0.02, 0.02), (timedelta(minutes=2), 120.0)])
def test_a_duration_is_seconds_or_a_timedelta(value: object, expected: float) -> None:
    assert parse_seconds(value, field="timeout") == expected


@pytest.mark.parametrize(
    "value", [0, -1, None, True, "5", float("nan"), float("inf"), timedelta(0), timedelta(days=-1)], ids=repr
)
def test_an_invalid_duration_is_refused(value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"^timeout: "):
        parse_seconds(value, field="timeout")
