# SPDX-License-Identifier: Apache-2.0
"""A request that has passed every check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.backend import Backend
    from airflow_provider_losant.emulator.state.identity import Token
    from airflow_provider_losant.emulator.state.model import Application, Notebook

DONE: Final = {"success": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that has passed every check, about things that exist."""

    backend: Backend
    token: Token
    application: Application
    found: Notebook | None
    query: Mapping[str, str]
    body: Any = None
    file: tuple[str, bytes] = ("", b"")
    links: bool = True

    @property
    def notebook(self) -> Notebook:
        """The notebook in question, which operations on a notebook always have."""
        if self.found is None:
            raise LookupError("this operation is not about a notebook")
        return self.found

    def number(self, name: str, default: int) -> int:
        """Read a whole number from the query; what cannot be read counts as absent."""
        try:
            return int(self.query[name])
        except (KeyError, ValueError):
            return default

    def instant(self, name: str) -> float | None:
        """Read milliseconds since the epoch from the query; what cannot be read counts as absent."""
        try:
            return float(self.query[name]) / 1000
        except (KeyError, ValueError):
            return None


Handler = Callable[[Asked], tuple[int, Any]]
