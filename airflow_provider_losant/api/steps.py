# SPDX-License-Identifier: Apache-2.0
"""What a flow can ask for besides a :class:`~airflow_provider_losant.api.calls.Call`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Clock = Callable[[], float]
Log = Callable[..., Any]
"""``logging.Logger.log``, or what looks like it: a level, a format and its arguments."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let time pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Note:
    """Write a line into the task's log."""

    text: str
    level: int = logging.INFO


@dataclass(frozen=True, slots=True)
class Tail:
    """Read the end of a file behind a signed URL, without the token: as many bytes as a task log is for."""

    url: str = field(repr=False)
    limit: int = 4_000


class Halted(BaseException):
    """A flow was stopped from outside; not an ``Exception``, so that nothing retries or forgives it."""
