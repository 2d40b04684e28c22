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

SUCCESS: Final = {"success": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """A request that has passed every check, about things that exist."""

    backend: Backend
    token: Token
    application: Application
    found_notebook: Notebook | None
    query: Mapping[str, str]
    body: Any = None
    file: tuple[str, bytes] = ("", b"")
    include_links: bool = True

    @property
    def notebook(self) -> Notebook:
        """The notebook in question, which operations on a notebook always have."""
        if self.found_notebook is None:
            raise LookupError("this operation is not about a notebook")
        return self.found_notebook

    def integer(self, name: str, default: int) -> int:
        """Read a whole number from the query; what cannot be read counts as absent."""
        try:
            return int(self.query[name])
        except (KeyError, ValueError):
            return default

    def timestamp(self, name: str) -> float | None:
        """Read milliseconds since the epoch from the query; what cannot be read counts as absent."""
        try:
            return float(self.query[name]) / 1000
        except (KeyError, ValueError):
            return None


Handler = Callable[[RequestContext], tuple[int, Any]]
