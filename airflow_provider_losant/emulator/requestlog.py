# SPDX-License-Identifier: Apache-2.0
"""What Losant saw: every request, without its token."""

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
    One request as it arrived, and the status of its answer.

    :param operation: such as ``notebook.logs``; empty when there is no such operation.
    :param headers: by lower-case name, without ``Authorization``.
    :param authorized: whether there was an ``Authorization`` header.
    :param body: the parsed JSON body, if there was one.
    :param status: the HTTP status of the answer; ``None`` while, or when, there was none.
    :param at: epoch seconds of the arrival.
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
    Remembers requests, oldest first.

    :param path: a file that gets one JSON line for each request when it is over.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: dict[int, Request] = {}
        self._next = 0
        self._lock = threading.Lock()

    def arrive(self, request: Request) -> int:
        """Take note of a request; returns the ticket to hand in with its answer."""
        with self._lock:
            self._next += 1
            self._seen[self._next] = request
            return self._next

    def leave(self, ticket: int, status: int | None) -> None:
        """Take note of how a request was answered."""
        with self._lock:
            request = self._seen.get(ticket)
            if request is None:
                return
            self._seen[ticket] = request = replace(request, status=status)
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(as_json(request)) + "\n")

    def all(self) -> list[Request]:
        """Return a copy of everything seen."""
        with self._lock:
            return list(self._seen.values())

    def clear(self) -> None:
        """Forget everything seen; the file keeps it."""
        with self._lock:
            self._seen.clear()


def as_json(request: Request) -> dict[str, Any]:
    """Write a request for another process."""
    return asdict(request)
