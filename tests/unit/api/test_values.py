# SPDX-License-Identifier: Apache-2.0
"""The values of a notebook: strict JSON of at most 48,000 bytes that every Airflow can store."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_losant.api.errors import (
    FileAccessDenied,
    LogIncomplete,
    LosantError,
    OutputError,
    TransportError,
)
from airflow_provider_losant.api.flows.values import MAX_DEPTH, MAX_VALUES, parse_values, read_values
from tests.support.factories import EXECUTION_ID, REF, execution
from tests.unit.api.flow_driver import FlowDriver

NAME = "values.json"


def listed(status: str = "completed", size: int | None = 3, url: str = "https://x/1") -> Any:
    return execution(status, outputInfo={NAME: {"url": url, "size": size}, "result.html": {"url": url}})


def nested(depth: int) -> str:
    return "[" * depth + "1" + "]" * depth


def of_size(size: int) -> bytes:
    return b'{"a": "' + b"x" * (size - 9) + b'"}'


# -- what is JSON -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b"{}", {}),
        (b"[]", []),
        (b' {"limit": 42.5, "site": null} \n', {"limit": 42.5, "site": None}),
        ('{"Größe": "☀ 日本 😀"}'.encode(), {"Größe": "☀ 日本 😀"}),
        (b'{"sun": "\\ud83d\\ude00"}', {"sun": "😀"}),
        (b"\xef\xbb\xbf[true, false]", [True, False]),
        (b'{"text": "{{ ds }} {% raw %}"}', {"text": "{{ ds }} {% raw %}"}),
        (b"[9223372036854775807, -9223372036854775808]", [2**63 - 1, -(2**63)]),
        (b'[{"a": 1}, {"a": 1}]', [{"a": 1}, {"a": 1}]),
        (nested(MAX_DEPTH).encode(), json.loads(nested(MAX_DEPTH))),
    ],
    ids=range(10),
)
def test_json_objects_and_arrays_are_values(content: bytes, values: Any) -> None:
    assert parse_values(content) == values


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not JSON: Expecting value"),
        (b"{'a': 1}", "is not JSON: Expecting property name"),
        (b'{"a": 1} x', "is not JSON: Extra data"),
        (b'{"a": NaN}', "is not JSON: it contains NaN"),
        (b"[Infinity]", "is not JSON: it contains Infinity"),
        (b"[-Infinity]", "is not JSON: it contains -Infinity"),
        (b"[1e999]", "has a number that is too large"),
        (b"[9223372036854775808]", "has an integer of more than 64 bits"),
        (
            b"[" + b"9" * 5_000 + b"]",
            "is not JSON: it is nested too deeply, or has a number that is too long",
        ),
        (nested(20_000).encode(), "is not JSON: it is nested too deeply"),
        (nested(MAX_DEPTH + 1).encode(), f"has more than {MAX_DEPTH} levels of objects and arrays"),
        (b"42", "is not a JSON object or array"),
        (b'"text"', "is not a JSON object or array"),
        (b"null", "is not a JSON object or array"),
        ("[1]".encode("utf-16"), r"is not UTF-8 \(at byte 0\)"),
        (b'{"a": "\xff"}', r"is not UTF-8 \(at byte 7\)"),
        (b'{"a": 1, "b": 2, "a": 3}', "has the key 'a' twice in an object"),
        (b'[{"__classname__": "x"}]', "has the key '__classname__', which Airflow reserves"),
        (b'{"__type": "dict", "__var": {}}', "has the key '__type', which Airflow reserves"),
        (b'["\\u0000"]', "has a text with a null character"),
        (b'{"\\ud800": 1}', "or half of a surrogate pair"),
    ],
    ids=range(21),
)
def test_anything_else_is_an_error_that_says_what_it_is(content: bytes, says: str) -> None:
    with pytest.raises(OutputError, match=says) as caught:
        parse_values(content)

    assert not caught.value.is_transient
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "content",
    [b'{"password": "SECRET-1" x', b'["SECRET-1\xff"]', b'"SECRET-1"', b'{"a": "SECRET-1", "a": "SECRET-1"}'],
    ids=range(4),
)
def test_no_error_contains_a_value(content: bytes) -> None:
    with pytest.raises(OutputError) as caught:
        parse_values(content)

    assert "SECRET" not in str(caught.value)


# -- reading them -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [MAX_VALUES, None], ids=["known", "unknown"])
def test_values_may_have_48000_bytes(size: int | None) -> None:
    driver = FlowDriver([[listed(size=size)]], files=[of_size(MAX_VALUES)])

    values: Any = driver.drive(read_values(REF, NAME, 2))

    assert len(json.dumps(values)) == MAX_VALUES
    assert [it.limit for it in driver.fetches] == [MAX_VALUES]
    assert "xxx" not in driver.log


def test_larger_values_are_refused_before_they_are_requested() -> None:
    driver = FlowDriver([[listed(size=MAX_VALUES + 1)]])

    with pytest.raises(OutputError, match=r"values\.json: 48,001 bytes, more than the limit of values_from"):
        driver.drive(read_values(REF, NAME, 2))
    assert driver.fetches == []


def test_values_that_turn_out_to_be_larger_name_the_file_and_the_execution() -> None:
    driver = FlowDriver([[listed(size=None)]], files=[OutputError("the file has more than 48,000 bytes")])

    with pytest.raises(
        OutputError, match=rf"^values\.json of the execution {EXECUTION_ID} of .*more than 48,000 bytes$"
    ):
        driver.drive(read_values(REF, NAME, 2))


def test_text_that_is_no_json_names_the_file_and_the_execution() -> None:
    driver = FlowDriver([[listed()]], files=[b"kwh"])

    with pytest.raises(
        OutputError, match=rf"^values\.json of the execution {EXECUTION_ID} of .* is not JSON"
    ):
        driver.drive(read_values(REF, NAME, 2))


def test_missing_values_show_what_there_is_and_what_to_configure() -> None:
    with pytest.raises(OutputError) as caught:
        FlowDriver([[listed()]]).drive(read_values(REF, "limits.json", 2))

    assert str(caught.value) == (
        f"the {REF} has no output 'limits.json'; its outputs: values.json, result.html. Losant keeps it "
        'if the notebook\'s outputs contain {"outputType": "temporaryUrl", "fileName": "limits.json"}'
    )


def test_an_expired_url_is_renewed_and_an_interrupted_download_repeated() -> None:
    driver = FlowDriver(
        [[listed()], [listed(url="https://x/2")]],
        files=[FileAccessDenied("403"), TransportError("broke off"), b"[1]"],
    )

    assert driver.drive(read_values(REF, NAME, 2)) == [1]
    assert [it.url for it in driver.fetches] == ["https://x/1", "https://x/2", "https://x/2"]


def test_a_log_that_is_older_than_the_end_of_the_execution_is_a_transient_error() -> None:
    with pytest.raises(LogIncomplete, match=r"lists the execution .* as inProgress, although it has ended"):
        FlowDriver([[listed("inProgress")]]).drive(read_values(REF, NAME, 2))

    error: LosantError = LogIncomplete("")
    assert error.is_transient
