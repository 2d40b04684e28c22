# SPDX-License-Identifier: Apache-2.0
"""Read OpenLineage events, and validate them with the client's own classes."""

from __future__ import annotations

import json
import pkgutil
import types
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

Json = dict[str, Any]


def read_events(*paths: Path, is_wanted: Callable[[str], bool] = bool) -> list[Json]:
    """
    Return the events that a file transport has written, in order; each is validated.

    :param is_wanted: Returns whether events of a job count, by its name.
    """
    lines = [line for path in paths if path.exists() for line in path.read_text().splitlines()]
    events = [event for line in lines if is_wanted((event := json.loads(line))["job"]["name"])]
    for event in events:
        validate(event)
    return events


def validate(event: Json) -> None:
    """
    Build an event from the client's classes, each facet by the schema that it names, and compare both.

    :raises ValueError: a value is refused by its class.
    :raises TypeError: a value is missing or unknown.
    """
    from openlineage.client.event_v2 import RunEvent
    from openlineage.client.serde import Serde

    assert event["schemaURL"] == RunEvent._get_schema()
    again = Serde.to_dict(build(RunEvent, event))
    assert json.loads(json.dumps(again)) == event


def build(kind: type, values: Mapping[str, Any]) -> Any:
    """Make an object of one of the client's classes from the values in an event."""
    hints = get_type_hints(kind)
    given = {name: value for name, value in values.items() if name not in ("_schemaURL", "schemaURL")}
    return kind(**{name.lstrip("_"): _value(hints[name], value) for name, value in given.items()})


def _value(hint: Any, value: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = [it for it in get_args(hint) if it is not type(None)]
    if isinstance(value, list):
        return [_value(get_args(hint)[0], it) for it in value]
    if get_origin(hint) is dict and isinstance(value, dict):
        return {name: _facet(name, it) for name, it in value.items()}
    if not isinstance(value, dict):
        return hint(value) if hasattr(hint, "__members__") else value
    return build(hint, value)


def _facet(name: str, value: Any) -> Any:
    """Make a facet; one of Airflow's own, which the client does not know, stays as it is."""
    from airflow_provider_losant.openlineage.emit import LosantExecutionRunFacet

    is_facet = isinstance(value, dict) and "_schemaURL" in value
    kinds = {"losant_execution": LosantExecutionRunFacet}
    kind = kinds.get(name) or (_facets().get(value["_schemaURL"]) if is_facet else None)
    return value if kind is None else build(kind, value)


@cache
def _facets() -> dict[str, type]:
    """Return the facets' classes by the URLs of their schemas, except those that any facet can name."""
    from openlineage.client import generated

    names = [it.name for it in pkgutil.iter_modules(generated.__path__)]
    known = [vars(import_module(f"{generated.__name__}.{name}")).values() for name in names]
    kinds = [it for them in known for it in them if hasattr(it, "_get_schema")]
    return {it._get_schema(): it for it in kinds if "/facets/" in it._get_schema()}
