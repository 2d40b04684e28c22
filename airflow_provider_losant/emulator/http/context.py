# SPDX-License-Identifier: Apache-2.0
"""What a handler gets to know about a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from airflow_provider_losant.emulator.state.backend import Backend
    from airflow_provider_losant.emulator.state.identity import Token
    from airflow_provider_losant.emulator.state.model import Application, Notebook

SUCCESS: Final = {"success": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """
    A request that has passed all checks.

    :param backend: the state of the emulator.
    :param token: the token of the request.
    :param application: the application in the path.
    :param found_notebook: the notebook in the path; ``None`` if the path has none.
    :param query: the query parameters.
    :param body: the parsed JSON body.
    :param file: name and content of the uploaded file.
    :param include_links: whether the response has ``_links``.
    """

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
        """The notebook in the path, for the operations that have one there."""
        return cast("Notebook", self.found_notebook)

    def integer(self, name: str, default: int) -> int:
        """Parse a query parameter as an integer; like Losant, ignore it if that fails."""
        try:
            return int(self.query[name])
        except (KeyError, ValueError):
            return default

    def timestamp(self, name: str) -> float | None:
        """Convert a query parameter from milliseconds to epoch seconds; ignore it if that fails."""
        try:
            return float(self.query[name]) / 1000
        except (KeyError, ValueError):
            return None


Handler = Callable[[RequestContext], tuple[int, Any]]
"""Handles a request; returns the status and the JSON of the response, or raises ``Refused``."""
