# SPDX-License-Identifier: Apache-2.0
"""The log of all requests that the emulator received, without their tokens."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    A request that the emulator received, and the status of its response.

    :param operation: the operation, such as ``notebook.logs``; empty if the API has no such operation.
    :param headers: the headers by lower-case name, without ``Authorization``.
    :param authorized: whether the request carried a token.
    :param body: the parsed JSON body; ``None`` if there was none.
    :param status: the HTTP status of the response; ``None`` while there is no response, and after a reset.
    :param at: when the request arrived, in epoch seconds.
    """

    operation: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    authorized: bool
    body: Any
    at: float
    status: int | None = None


class RequestLog:
    """
    Records requests, oldest first.

    :param path: a file to which one JSON line is appended for each completed request.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._requests: dict[int, Request] = {}
        self._last_id = 0
        self._lock = threading.Lock()

    def record(self, request: Request) -> int:
        """Add a request; returns its id for :meth:`complete`."""
        with self._lock:
            self._last_id += 1
            self._requests[self._last_id] = request
            return self._last_id

    def complete(self, request_id: int, status: int | None) -> None:
        """
        Set the status of a request's response and write the request to the file.

        :param status: the HTTP status; ``None`` if the connection was reset.
        """
        with self._lock:
            request = self._requests.get(request_id)
            if request is None:
                return
            self._requests[request_id] = request = replace(request, status=status)
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(as_json(request)) + "\n")

    def all(self) -> list[Request]:
        """Return a copy of the log."""
        with self._lock:
            return list(self._requests.values())

    def clear(self) -> None:
        """Remove all requests from memory; the file keeps them."""
        with self._lock:
            self._requests.clear()


def as_json(request: Request) -> dict[str, Any]:
    """Return a request as a JSON object."""
    return asdict(request)
