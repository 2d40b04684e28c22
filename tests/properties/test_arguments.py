# SPDX-License-Identifier: Apache-2.0
"""The arguments of a DAG author arrive at Losant unchanged, or are refused before any request."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any
from zoneinfo import ZoneInfo

import pendulum
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.fields import losant_id
from airflow_provider_losant.api.flows.ownership import MARKER_KEY
from airflow_provider_losant.api.payloads import MAX_CONTEXT, compact_json, encode_context, execution_options
from airflow_provider_losant.api.timestamps import format_timestamp, parse_timestamp
from airflow_provider_losant.emulator.http.schemas import body_error
from airflow_provider_losant.emulator.state.timestamps import parse_relative_to
from tests.support.factories import owner
from tests.support.hypothesis_settings import often, seldom

ZONES = st.sampled_from(
    [UTC, *map(ZoneInfo, ("America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia"))]
) | st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
WHEN = st.datetimes(
    min_value=datetime(2001, 9, 11),  # noqa: DTZ001 - Hypothesis adds the zone
    max_value=datetime(9000, 1, 1),  # noqa: DTZ001 - the same
    timezones=ZONES,
    allow_imaginary=False,
)
SPELLINGS: dict[str, Callable[[datetime], Any]] = {
    "a datetime": lambda it: it,
    "a pendulum": pendulum.instance,
    "ISO-8601": lambda it: it.isoformat(),
    "ISO-8601 with a space": lambda it: it.isoformat(" "),
    "ISO-8601 in UTC": lambda it: it.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    "naive, which is UTC": lambda it: it.astimezone(UTC).replace(tzinfo=None),
    "pendulum's text": lambda it: pendulum.instance(it).to_iso8601_string(),
    "epoch milliseconds": lambda it: round(it.timestamp() * 1000),
    "epoch milliseconds as text": lambda it: str(round(it.timestamp() * 1000)),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_timestamp_is_the_same_in_every_spelling_and_at_losant(spelling: str) -> None:
    @often
    @given(WHEN)
    def check(moment: datetime) -> None:
        sent = format_timestamp(parse_timestamp(SPELLINGS[spelling](moment), field="relative_to"))

        arrived = parse_relative_to(sent, 0.0)
        assert arrived is not None
        assert abs(arrived - moment.timestamp()) < 0.0011  # the precision of a float of seconds
        assert sent.endswith("Z")

    check()


@often
@given(
    st.text(max_size=30)
    | WHEN.map(format_datetime)
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.none()
    | st.dates().map(str)
    | st.binary(max_size=5)
    | st.timedeltas()
)
@example("9" * 5_000)
@example(float("nan"))
@example(datetime.max.replace(tzinfo=timezone(timedelta(hours=-23))))
@example(date.max)
def test_an_invalid_timestamp_is_refused_and_never_sent_as_now(value: Any) -> None:
    try:
        moment = parse_timestamp(value, field="relative_to")
    except InvalidArgument as error:
        assert error.field == "relative_to"  # noqa: PT017 - not every example raises
        return
    assert parse_relative_to(format_timestamp(moment), 0.0) == pytest.approx(moment.timestamp(), abs=0.001)


# -- template contexts ------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
OWNER = owner(task_id="täsk", run_id="✓")


@often
@given(st.dictionaries(st.text(max_size=10), JSON, max_size=5))
def test_a_context_arrives_unchanged(context: dict[str, Any]) -> None:
    text = encode_context(context)
    assert text is not None
    # The context is sent as a string in JSON in UTF-8.
    sent = json.loads(json.dumps(execution_options(template_context=text)).encode())

    assert json.loads(sent["templateContext"]) == context
    assert encode_context(text) == text
    assert body_error("executionOptions", sent) is None


@often
@given(st.dictionaries(st.text(max_size=10).filter(lambda it: it != MARKER_KEY), JSON, max_size=5))
def test_a_marker_changes_no_other_key_of_a_context(context: dict[str, Any]) -> None:
    marked = json.loads(compact_json(OWNER.add_marker(context)))

    assert marked.pop(MARKER_KEY) == asdict(OWNER)
    assert marked == context


@often
@given(JSON.filter(lambda it: not isinstance(it, str | dict) and it is not None))
def test_json_that_is_not_an_object_is_refused(value: Any) -> None:
    for given_ in (value, json.dumps(value)):
        with pytest.raises(InvalidArgument, match="template_context: is "):
            encode_context(given_)


@seldom
@given(st.sampled_from(["x", "é", "✓", "😀", '"', "\\", "\n"]), st.integers(-2, 2))
def test_the_longest_allowed_context_is_counted_in_characters(character: str, more: int) -> None:
    frame = len(compact_json({"a": ""}))
    width = len(compact_json({"a": character})) - frame
    given_ = {"a": character * ((MAX_CONTEXT + more - frame) // width)}
    text = compact_json(given_)

    if len(text) <= MAX_CONTEXT:
        assert encode_context(given_) == text
        assert body_error("executionOptions", {"templateContext": text}) is None
    else:
        for value in (given_, text):
            with pytest.raises(InvalidArgument, match="32,767"):
                encode_context(value)
        assert body_error("executionOptions", {"templateContext": text}) is not None


@often
@given(st.text(max_size=60) | st.from_regex(r"-?[0-9.]{1,3}[eE][0-9]{3,5}", fullmatch=True))
@example('{"a": 1e999}')
@example("NaN")
@example("[" * 32_767)
@example("9" * 5_000)
def test_text_that_is_no_json_object_is_refused(text: str) -> None:
    try:
        found = json.loads(text, parse_constant=float)
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError):
        found = text

    if text.strip() in {"", "None"} or found is None:  # what a template renders to for no context
        assert encode_context(text) is None
    elif isinstance(found, dict):
        assert encode_context(text) == text
    else:
        with pytest.raises(InvalidArgument, match="template_context"):
            encode_context(text)


@often
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.binary(max_size=3) | st.just(float("nan")) | st.timedeltas() | st.complex_numbers(),
        min_size=1,
        max_size=3,
    )
)
def test_values_without_a_json_form_are_refused(context: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=r"template_context\[.* is not "):
        encode_context(context)


# -- ids --------------------------------------------------------------------------------------------------


@often
@given(st.text(max_size=30) | st.from_regex(r"[0-9A-Fa-f]{24}", fullmatch=True) | st.none() | st.integers())
@example("../" * 8)
@example("0" * 23 + "\n")
@example("٣" * 24)
@example("0" * 24 + "/execute")
def test_only_a_valid_id_gets_into_a_path(value: Any) -> None:
    try:
        safe = losant_id(value, field="notebook_id")
    except InvalidArgument:
        return
    assert len(safe) == 24
    assert set(safe) <= set("0123456789abcdef")
