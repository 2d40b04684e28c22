# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for request bodies and parameters, valid and invalid, from their schemas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)


def valid(schema: dict[str, Any], schemas: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Draw values that match a schema; supports the keywords that the OpenAPI description uses."""
    if "$ref" in schema:
        return valid(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for keyword in ("oneOf", "anyOf"):
        if keyword in schema:
            return st.one_of([valid(choice, schemas) for choice in schema[keyword]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return _BY_TYPE[schema["type"]](schema, schemas)


def _string(schema: dict[str, Any], _: Any) -> st.SearchStrategy[str]:
    if schema.get("format") == "email":
        return st.sampled_from(("a@b.co", "first.last@plant.example"))
    if schema.get("format") == "date-time":
        return st.datetimes(timezones=st.timezones()).map(str) | st.datetimes().map(str)
    if schema.get("format") == "uri":
        return st.sampled_from(("https://a.example/b?c=d", "urn:x"))
    if "pattern" in schema:
        drawn = st.from_regex(schema["pattern"], fullmatch=True)
        return drawn.filter(
            lambda text: schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", 99)
        )
    max_size = min(schema.get("maxLength", 20), 20)
    return st.text(min_size=schema.get("minLength", 0), max_size=max_size)


def _object(schema: dict[str, Any], schemas: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    properties = {name: valid(it, schemas) for name, it in schema.get("properties", {}).items()}
    required = {name: properties.pop(name) for name in schema.get("required", ())}
    return st.fixed_dictionaries(required, optional=properties)


def _array(schema: dict[str, Any], schemas: dict[str, Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(valid(schema["items"], schemas), max_size=2)


_Strategy = Callable[[dict[str, Any], dict[str, Any]], st.SearchStrategy[Any]]
_BY_TYPE: dict[str, _Strategy] = {
    "string": _string,
    "object": _object,
    "array": _array,
    "number": lambda *_: st.floats(-1e15, 1e15) | st.integers(-(10**15), 10**15),
    "integer": lambda *_: st.integers(0, 10**6),
    "boolean": lambda *_: st.booleans(),
}


@st.composite
def with_one_change(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> Any:
    """Draw an object and replace, remove or add one property, or draw any other JSON value instead."""
    value = draw(values)
    if not isinstance(value, dict):
        return draw(ANY_JSON)
    change = draw(st.sampled_from(("replace", "remove", "add", "other")))
    if change == "other" or (not value and change != "add"):
        return draw(ANY_JSON)
    if change == "add":
        return value | {draw(st.text(max_size=5)): draw(ANY_JSON)}
    name = draw(st.sampled_from(sorted(value)))
    rest = {key: it for key, it in value.items() if key != name}
    return rest | ({name: draw(ANY_JSON)} if change == "replace" else {})
