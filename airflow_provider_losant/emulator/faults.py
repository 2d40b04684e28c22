# SPDX-License-Identifier: Apache-2.0
"""Faults: what can go wrong between a request and its answer, ordered in advance."""

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
    "mislabelled",
    "misshapen",
    "extra_fields",
    "missing_fields",
    "drip",
    "bomb",
    "endless",
]
ANY: Final = "*"
FILES: Final = "files.get"
"""Fetching a file, which is no operation of the API and not meant by :data:`ANY`."""


@dataclass(frozen=True, slots=True)
class Fault:
    """
    Spoil one request.

    :param kind: what goes wrong.
    :param status: the HTTP status of ``server_error`` (503) and ``html`` (502).
    :param retry_after: the ``Retry-After`` of ``rate_limited``: seconds or an HTTP date; absent by default.
    :param seconds: how long ``hang``, ``slow``, ``drip`` and ``endless`` keep the client waiting.
    :param effect: whether a request is carried out all the same whose answer has nothing of the right one;
        a ``slow`` one is always carried out, before the wait or after it.
    :param location: where ``redirect`` points to.
    :param size: bytes that a ``bomb`` unpacks to.
    """

    kind: Kind
    status: int | None = None
    retry_after: float | str | None = None
    seconds: float = 30.0
    effect: bool = False
    location: str = "http://elsewhere.invalid/"
    size: int = 256 * 1024**2

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"no such fault: {self.kind}")

    @classmethod
    def from_json(cls, wanted: Mapping[str, Any]) -> Self:
        """
        Read a fault from JSON.

        :raises ValueError: for an unknown key or kind.
        """
        unknown = set(wanted) - {field.name for field in fields(cls)}
        if unknown or "kind" not in wanted:
            raise ValueError(f"a fault needs a kind and has no {', '.join(sorted(unknown)) or 'other keys'}")
        return cls(**wanted)

    @property
    def after_effect(self) -> bool:
        """Whether the request is carried out before things go wrong."""
        return self.kind == "reset_after" or self.effect


class Faults:
    """The faults that wait for a request of their operation, first come, first served."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, Fault]] = deque()
        self._lock = threading.Lock()

    def add(self, operation: str, fault: Fault, times: int) -> None:
        """Order a fault for the next requests of an operation, or of any."""
        with self._lock:
            self._waiting.extend([(operation, fault)] * times)

    def clear(self) -> None:
        """Forget the faults that have met no request yet."""
        with self._lock:
            self._waiting.clear()

    def take(self, operation: str) -> Fault | None:
        """Return the fault that this request meets, and strike it off."""
        with self._lock:
            for index, (wanted, fault) in enumerate(self._waiting):
                if wanted == operation or (wanted == ANY and operation != FILES):
                    del self._waiting[index]
                    return fault
        return None
