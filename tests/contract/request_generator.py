# SPDX-License-Identifier: Apache-2.0
"""Requests that a description allows, and such that it may not, drawn by chance."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)


def fitting(schema: dict[str, Any], schemas: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Draw what fits a schema, of those keywords that the description uses."""
    if "$ref" in schema:
        return fitting(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            return st.one_of([fitting(it, schemas) for it in schema[choice]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return _KINDS[schema["type"]](schema, schemas)


def _text(schema: dict[str, Any], _: Any) -> st.SearchStrategy[str]:
    if schema.get("format") == "email":
        return st.sampled_from(("a@b.co", "first.last@plant.example"))
    if schema.get("format") == "date-time":
        return st.datetimes(timezones=st.timezones()).map(str) | st.datetimes().map(str)
    if schema.get("format") == "uri":
        return st.sampled_from(("https://a.example/b?c=d", "urn:x"))
    if "pattern" in schema:
        drawn = st.from_regex(schema["pattern"], fullmatch=True)
        return drawn.filter(lambda it: schema.get("minLength", 0) <= len(it) <= schema.get("maxLength", 99))
    most = min(schema.get("maxLength", 20), 20)
    return st.text(min_size=schema.get("minLength", 0), max_size=most)


def _object(schema: dict[str, Any], schemas: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    parts = {name: fitting(it, schemas) for name, it in schema.get("properties", {}).items()}
    needed = {name: parts.pop(name) for name in schema.get("required", ())}
    return st.fixed_dictionaries(needed, optional=parts)


def _things(schema: dict[str, Any], schemas: dict[str, Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(fitting(schema["items"], schemas), max_size=2)


_KINDS = {
    "string": _text,
    "object": _object,
    "array": _things,
    "number": lambda *_: st.floats(-1e15, 1e15) | st.integers(-(10**15), 10**15),
    "integer": lambda *_: st.integers(0, 10**6),
    "boolean": lambda *_: st.booleans(),
}


@st.composite
def doubtful(draw: st.DrawFn, good: st.SearchStrategy[Any]) -> Any:
    """Draw what would fit, but for one thing: another value, one that is missing, one too many."""
    value = draw(good)
    if not isinstance(value, dict):
        return draw(JUNK)
    change = draw(st.sampled_from(("replace", "remove", "add", "another")))
    if change == "another" or (not value and change != "add"):
        return draw(JUNK)
    if change == "add":
        return value | {draw(st.text(max_size=5)): draw(JUNK)}
    name = draw(st.sampled_from(sorted(value)))
    rest = {key: it for key, it in value.items() if key != name}
    return rest | ({name: draw(JUNK)} if change == "replace" else {})
