# SPDX-License-Identifier: Apache-2.0
"""The public names of the package: those in the provider info."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from airflow_provider_losant.get_provider_info import get_provider_info

KINDS = ("operators", "sensors", "hooks", "triggers")


def declared() -> Iterator[str]:
    """Yield the full names of what the provider info lists."""
    info = get_provider_info()
    modules = [name for kind in KINDS for it in info[kind] for name in it["python-modules"]]
    for module in [*modules, *(it["python-module"] for it in info["transfers"])]:
        yield from (f"{module}.{name}" for name in defined_in(module) if inspect.isclass(thing(module, name)))
    yield from info["extra-links"]
    yield from (it["class-name"] for it in info["task-decorators"])
    yield from (it["factory"] for it in info["asset-uris"])


def defined_in(module: str) -> list[str]:
    """Name what a module itself has that is public."""
    own = vars(import_module(module)).items()
    return [name for name, it in own if getattr(it, "__module__", "") == module and not name.startswith("_")]


def thing(module: str, name: str) -> Any:
    return getattr(import_module(module), name)


def resolved(name: str) -> Any:
    module, _, last = name.rpartition(".")
    return thing(module, last)


PUBLIC = sorted(set(declared()))
"""Their full names."""
