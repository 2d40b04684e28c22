# SPDX-License-Identifier: Apache-2.0
"""
Evaluates the queries of inputs (``queryJson``) on the rows of a sample.

The operators are those of Losant's published schemas ``advancedQuery``, ``advancedDeviceQuery`` and
``advancedEventQuery``. What they mean is inferred from their names, which are MongoDB's.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from airflow_provider_losant.emulator.state.timestamps import parse_timestamp

Row = Mapping[str, Any]
Predicate = Callable[[Row], bool]
"""Returns whether a row matches."""
Test = Callable[[Any], bool]
"""Returns whether a cell matches."""


def _none(results: Iterable[bool]) -> bool:
    return not any(results)


_LOGICAL: Final[Mapping[str, Callable[[Iterable[bool]], bool]]] = {"$and": all, "$or": any, "$nor": _none}
_ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_TEXT: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "$startsWith": str.startswith,
    "$endsWith": str.endswith,
    "$contains": operator.contains,
}
_TAG_OPERATORS: Final = ("$in", "$nin")
_OPERATORS: Final = ("$eq", "$ne", *_ORDER, *_TEXT, *_TAG_OPERATORS, "$ci")
_TAG_PARTS: Final = ("$tagKey", "$tagValue")


class QueryError(Exception):
    """Raised when a query is invalid, or names what the sample does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryCompiler:
    """
    Compiles queries for the rows of one sample.

    :param columns: the columns of the sample.
    :param aliases: columns by the names that queries use for them.
    :param tags: the name that queries use for tags; empty if the rows have none.
    :param tag_columns: the columns that are tags, unless there is a column for an object with all tags.
    """

    columns: Collection[str]
    aliases: Mapping[str, str]
    tags: str
    tag_columns: Collection[str]

    def compile(self, query: Any) -> Predicate:
        """
        Return a function that tests a row.

        :raises QueryError: if the query is invalid.
        """
        if not isinstance(query, Mapping):
            raise QueryError("a query is a JSON object")
        parts = [self._part(name, value) for name, value in query.items()]
        return lambda row: all(part(row) for part in parts)

    def _part(self, name: str, value: Any) -> Predicate:
        if name in _LOGICAL:
            combine, parts = _LOGICAL[name], [self.compile(each) for each in _list(name, value)]
            return lambda row: combine(part(row) for part in parts)
        if name == self.tags:
            return self._tags_match(value)
        column = name if name in self.columns else self.aliases.get(name, name)
        self._check(column)
        test = _condition(value)
        return lambda row: test(row.get(column))

    def _check(self, column: str) -> None:
        if column not in self.columns:
            raise QueryError(f"the sample has no column {column}")

    def _tags_match(self, value: Any) -> Predicate:
        if value is None:
            return lambda row: not self._tags_of(row)
        if not isinstance(value, Mapping):
            raise QueryError(f"{self.tags} needs an object")
        if value.keys() == {"$eq"}:
            return self._tags_match(value["$eq"])
        if value.keys() == {"$ne"}:
            equal = self._tags_match(value["$ne"])
            return lambda row: not equal(row)
        if value and value.keys() <= set(_TAG_PARTS):
            of_key, of_value = (
                _condition(value[part], _TAG_OPERATORS) if part in value else _any for part in _TAG_PARTS
            )
            return lambda row: any(of_key(tag) and of_value(cell) for tag, cell in self._tags_of(row).items())
        for tag in () if self.tags in self.columns else value:
            self._check(tag)
        tests = {tag: _condition(condition, _TAG_OPERATORS) for tag, condition in value.items()}
        return lambda row: all(test(self._tags_of(row).get(tag)) for tag, test in tests.items())

    def _tags_of(self, row: Row) -> Mapping[str, Any]:
        if self.tags not in self.columns:
            return {column: row[column] for column in self.tag_columns if row.get(column)}
        tags = row.get(self.tags) or {}
        if not isinstance(tags, Mapping):
            raise QueryError(f"{self.tags} is not an object in the sample")
        return tags


def _any(_: Any) -> bool:
    return True


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise QueryError(f"{name} needs a list")
    return value


def _condition(value: Any, operators: Collection[str] = _OPERATORS) -> Test:
    """Return the test for a value, or for an object with operators, all of which have to be true."""
    if not isinstance(value, Mapping):
        return _operator("$eq", value, ignore_case=False)
    for name in value:
        if name not in operators:
            raise QueryError(f"unknown operator {name}")
    ignore_case = value.get("$ci") is True
    tests = [
        _operator(name, operand, ignore_case=ignore_case) for name, operand in value.items() if name != "$ci"
    ]
    return lambda cell: all(test(cell) for test in tests)


def _operator(name: str, operand: Any, *, ignore_case: bool) -> Test:
    if name in ("$ne", "$nin"):
        opposite = _operator({"$ne": "$eq", "$nin": "$in"}[name], operand, ignore_case=ignore_case)
        return lambda cell: not opposite(cell)
    if name == "$in":
        tests = [_operator("$eq", each, ignore_case=ignore_case) for each in _list(name, operand)]
        return lambda cell: any(test(cell) for test in tests)
    if not isinstance(operand, str if name in _TEXT else (str, int, float, bool, type(None))):
        raise QueryError(f"{name} needs {'a text' if name in _TEXT else 'a single value'}")
    if operand is None:
        # A CSV file cannot say whether a cell is empty or missing.
        return lambda cell: name == "$eq" and cell in (None, "")
    compare = {"$eq": operator.eq, **_ORDER, **_TEXT}[name]
    expected = operand.casefold() if ignore_case and isinstance(operand, str) else operand

    def test(cell: Any) -> bool:
        actual = _converted(cell, like=operand)
        if actual is None:
            return False
        return bool(
            compare(actual.casefold() if ignore_case and isinstance(actual, str) else actual, expected)
        )

    return test


def _converted(cell: Any, *, like: str | float) -> str | float | None:
    """Convert a cell to the type of a value; ``None`` if that is impossible. Cells of CSV files are text."""
    if isinstance(like, str):
        return cell if isinstance(cell, str) else None
    if isinstance(like, bool):
        return cell if isinstance(cell, bool) else {"true": True, "false": False}.get(str(cell).lower())
    if isinstance(cell, str):
        with suppress(ValueError):
            return float(cell)
        # Queries give times as milliseconds, too.
        timestamp = parse_timestamp(cell)
        return None if timestamp is None else timestamp * 1000
    return cell if isinstance(cell, int | float) and not isinstance(cell, bool) else None
