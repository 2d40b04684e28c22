# SPDX-License-Identifier: Apache-2.0
"""Template contexts: what becomes JSON, and what is refused by the key that holds it."""

from __future__ import annotations

import json
from collections import ChainMap, OrderedDict, deque
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import pandas as pd
import pendulum
import pytest

from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.payloads import MAX_CONTEXT, encode_context

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Site(NamedTuple):
    name: str
    number: int


class Lazy(Sequence[Any]):
    """A sequence that is no list and gets its elements one by one, as Airflow's of mapped tasks."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: Any) -> Any:
        return (1, MOMENT)[index]

    def __repr__(self) -> str:
        return "lazy"


class Folder:
    """A path that is no class of pathlib's."""

    def __init__(self, path: str | bytes) -> None:
        self._path = path

    def __fspath__(self) -> str | bytes:
        return self._path


class Text(str, Enum):  # noqa: UP042 - whose text is not its value, unlike that of StrEnum
    NORTH = "north"


class Name(StrEnum):
    SOUTH = "south"


class Number(IntEnum):
    SEVEN = 7


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ({}, "{}"),
        ({"site": "Zürich", "n": [1, 2.5, None, True]}, '{"site":"Zürich","n":[1,2.5,null,true]}'),
        ('{ "as": "it is" }', '{ "as": "it is" }'),
        (MappingProxyType({"a": OrderedDict(b=ChainMap({"c": 1}))}), '{"a":{"b":{"c":1}}}'),
    ],
    ids=str,
)
def test_a_context_is_a_mapping_or_json_text(value: Any, text: str | None) -> None:
    assert encode_context(value) == text


@pytest.mark.parametrize("value", [None, "", " ", "None", "null", " null "], ids=repr)
def test_a_template_that_renders_to_nothing_is_no_context(value: str | None) -> None:
    assert encode_context(value) is None


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (MOMENT, "2026-01-02T03:04:05+00:00"),
        (pendulum.datetime(2026, 1, 2, tz="Europe/Berlin"), "2026-01-02T00:00:00+01:00"),
        (pd.Timestamp(MOMENT), "2026-01-02T03:04:05+00:00"),
        (np.datetime64("2026-01-02T03:04:05.000000006"), "2026-01-02T03:04:05.000000006"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4), "03:04:00"),
        (Decimal("1.50"), 1.5),
        (Decimal(2**70), 2**70),
        (-(2**1023) + 1, -(2**1023) + 1),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.longdouble(0.5), 0.5),
        (np.str_("x"), "x"),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(5), 5),
        (np.array("x"), "x"),
        (np.array({"a": MOMENT}, dtype=object), {"a": "2026-01-02T03:04:05+00:00"}),
        (pd.Series([1, 2]), [1, 2]),
        (pd.DatetimeIndex(["2026-01-02"]), ["2026-01-02T00:00:00"]),
        (Text.NORTH, "north"),
        (Name.SOUTH, "south"),
        (Number.SEVEN, 7),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/x/y"), "/x/y"),
        (Folder("/x/y"), "/x/y"),
        (("a", 1), ["a", 1]),
        (Site("north", 1), ["north", 1]),
        (deque([1]), [1]),
        (range(2), [0, 1]),
        ({10, 9, "b", "a"}, [9, 10, "a", "b"]),
        (frozenset({date(2026, 1, 2)}), ["2026-01-02"]),
        ({"a": 1}.keys(), ["a"]),
        ({"a": 1}.values(), [1]),
        (Lazy(), [1, "2026-01-02T03:04:05+00:00"]),
    ],
    # Not the value of a set: each worker of pytest-xdist orders it differently.
    ids=lambda value: (
        type(value).__name__ + (f" {value}"[:40] if not isinstance(value, set | frozenset) else "")
    ),
)
def test_what_json_lacks_is_converted_wherever_it_is(value: Any, found: Any) -> None:
    text = encode_context({"top": value, "in": {"it": [value]}})

    assert json.loads(text or "") == {"top": found, "in": {"it": [found]}}
    assert type(json.loads(text or "")["top"]) is type(found)


@pytest.mark.parametrize(
    ("key", "name"),
    [(2024, "2024"), (np.int64(7), "7"), (date(2026, 1, 2), "2026-01-02"), (Text.NORTH, "north")],
    ids=str,
)
def test_a_key_with_one_usual_form_becomes_text(key: Any, name: str) -> None:
    assert json.loads(encode_context({"a": {key: 1}}) or "") == {"a": {name: 1}}


def numbers() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (float("nan"), "nan is not a JSON number"),
        (np.float64("-inf"), "-inf is not a JSON number"),
        (Decimal("NaN"), "NaN is not a JSON number"),
        (Decimal("sNaN"), "sNaN is not a JSON number"),
        (Decimal("1E+400"), "1E+400 is not a JSON number"),
        (10**400, "an integer of 1,329 bits is not a JSON number"),
        (-(10**5000), "an integer of 16,610 bits is not a JSON number"),
        (Decimal("9" * 5000), "an integer of 16,610 bits is not a JSON number"),
        ({10**5000: 1}, "an integer of 16,610 bits is not a JSON number"),
        (Folder(b"/x"), "a bytes is not JSON"),
        (pd.NaT, "a NaTType is not JSON"),
        (pd.NA, "a NAType is not JSON"),
        (np.datetime64("NaT"), "a datetime64 is not JSON"),
        (np.timedelta64(1, "s"), "a timedelta64 is not JSON"),
        (timedelta(1), "a timedelta is not JSON"),
        (b"x", "a bytes is not JSON"),
        (bytearray(b"x"), "a bytearray is not JSON"),
        (1j, "a complex is not JSON"),
        (np.complex128(1), "a complex128 is not JSON"),
        (pd.DataFrame({"a": [1]}), "a DataFrame is not JSON"),
        (object(), "a object is not JSON"),
        (numbers(), "a generator is not JSON"),
        ({True: 1}, "has a key that is a bool"),
        ({None: 1}, "has a key that is a NoneType"),
        ({1.5: 1}, "has a key that is a float"),
        ({("a", "b"): 1}, "has a key that is a tuple"),
        ({1: 1, "1": 2}, "has the key '1' twice"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_what_cannot_be_json_is_refused_by_its_key(value: Any, problem: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        encode_context({"fine": 1, "a": {'b "c"': [0, value]}})

    assert str(caught.value).startswith(rf'template_context["a"]["b \"c\""][1]: {problem}')


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"a": [NaN]}', 'template_context["a"][0]: nan'),
        ('{"a": {"b": -Infinity}}', 'template_context["a"]["b"]: -inf'),
        ('{"a": 1e400}', 'template_context["a"]: inf'),
        ("NaN", "template_context: nan"),
    ],
)
def test_json_text_with_a_number_that_json_has_not_is_refused_by_its_key(text: str, path: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        encode_context(text)

    assert str(caught.value) == f"{path} is not a JSON number"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([], "a list"),
        ([{"a": 1}], "a list"),
        ("[1]", "a list"),
        (Lazy(), "a list"),
        ('"north"', "text"),
        ("3", "a number"),
        (2.5, "a number"),
        ("true", "a boolean"),
        (MOMENT, "text"),
    ],
    ids=str,
)
def test_a_context_that_is_no_object_is_refused(value: Any, kind: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^template_context: is {kind}; Losant needs a mapping"):
        encode_context(value)


@pytest.mark.parametrize(
    "value", ["site=north", "{'site': 'north'}", "{{ params.site }}", "[" * 20_000], ids=lambda it: it[:20]
)
def test_a_text_that_is_not_json_is_refused(value: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^template_context: is not JSON"):
        encode_context(value)


def test_a_context_that_contains_itself_is_refused() -> None:
    context: dict[str, Any] = {}
    context["a"] = [context]

    with pytest.raises(InvalidArgument, match=r"^template_context: is not JSON"):
        encode_context(context)


def test_a_context_may_be_as_long_as_losant_accepts_and_no_longer() -> None:
    longest = json.dumps({"a": "é" * (MAX_CONTEXT - 9)}, ensure_ascii=False)

    assert encode_context(longest) == longest
    with pytest.raises(InvalidArgument, match=r"^template_context: has 32,768 characters"):
        encode_context(longest + " ")
