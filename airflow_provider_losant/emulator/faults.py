# SPDX-License-Identifier: Apache-2.0
"""Faults that a test can inject: what goes wrong between a request and its response."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, Self, get_args

Kind = Literal[
    "rate_limited",
    "server_error",
    "html",
    "truncated",
    "reset_before",
    "reset_after",
    "hang",
    "redirect",
    "slow",
    "unauthorized",
    "empty",
    "wrong_content_type",
    "wrong_shape",
    "extra_fields",
    "missing_fields",
    "slow_body",
    "gzip_bomb",
    "endless",
]
ANY_OPERATION: Final = "*"
"""Every operation of the API; not the download of a file."""
FILES: Final = "files.get"
"""The download of a file. It is not an operation of the API."""


@dataclass(frozen=True, slots=True)
class Fault:
    """
    A fault that happens to one request.

    :param kind: what goes wrong.
    :param status: the HTTP status of ``server_error`` (default 503) and ``html`` (default 502).
    :param retry_after: the ``Retry-After`` header of ``rate_limited``: seconds or an HTTP date; default none.
    :param seconds: the duration of ``hang``, ``slow``, ``slow_body`` and ``endless``, in seconds.
    :param processed: whether the request is processed before the fault, so that it takes effect although
        the client gets no correct response. Without it, a ``slow`` request is processed after the wait.
    :param location: the ``Location`` header of ``redirect``.
    :param size: the size of the uncompressed body of ``gzip_bomb``, in bytes.
    """

    kind: Kind
    status: int | None = None
    retry_after: float | str | None = None
    seconds: float = 30.0
    processed: bool = False
    location: str = "http://elsewhere.invalid/"
    size: int = 256 * 1024**2

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"unknown fault kind: {self.kind}")

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """
        Create a fault from a JSON object whose keys are the parameters.

        :raises ValueError: if a key or the kind is unknown, or the kind is missing.
        """
        unknown = sorted(set(body) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"unknown fault parameters: {', '.join(unknown)}")
        if "kind" not in body:
            raise ValueError("a fault needs a kind")
        return cls(**body)

    @property
    def is_processed_first(self) -> bool:
        """Whether the request is processed before the fault."""
        return self.kind == "reset_after" or self.processed


class Faults:
    """A queue of injected faults. Each request consumes the first fault that matches its operation."""

    def __init__(self) -> None:
        self._pending: deque[tuple[str, Fault]] = deque()
        self._lock = threading.Lock()

    def add(self, operation: str, fault: Fault, times: int) -> None:
        """Inject a fault into the next ``times`` requests of an operation, or of :data:`ANY_OPERATION`."""
        with self._lock:
            self._pending.extend([(operation, fault)] * times)

    def pending(self) -> list[str]:
        """Return the operations of the faults that no request has consumed yet, in the order of injection."""
        with self._lock:
            return [operation for operation, _ in self._pending]

    def clear(self) -> None:
        """Remove all faults that no request has consumed yet."""
        with self._lock:
            self._pending.clear()

    def take(self, operation: str) -> Fault | None:
        """Remove and return the fault for a request of this operation; ``None`` if there is none."""
        with self._lock:
            for index, (target, fault) in enumerate(self._pending):
                if target == operation or (target == ANY_OPERATION and operation != FILES):
                    del self._pending[index]
                    return fault
        return None
