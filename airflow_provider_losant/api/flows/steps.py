# SPDX-License-Identifier: Apache-2.0
"""
The steps that a flow yields, and the type of a flow.

A flow is a generator: it *yields* steps and is *sent* their results, or has their :class:`LosantError`
thrown into it. ``Client.run`` (workers) and ``AsyncClient.run`` (triggerer) carry out the steps, so each
decision exists once for both HTTP libraries.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from airflow_provider_losant.api.endpoints import Call

T = TypeVar("T")

Clock = Callable[[], float]
Log = Callable[..., Any]
"""``logging.Logger.log``, or what looks like it: a level, a format and its arguments."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait for some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class LogLine:
    """Write a line into the task's log."""

    text: str
    level: int = logging.INFO


@dataclass(frozen=True, slots=True)
class Tail:
    """Read the end of a file behind a signed URL, without the token: as many bytes as a task log is for."""

    url: str = field(repr=False)
    limit: int = 4_000


class Sink(Protocol):
    """What the bytes of a file are written to."""

    def write(self, content: bytes, /) -> Any:
        """Take the next bytes."""


OpenSink = Callable[[], AbstractContextManager[Sink]]
"""Opens a sink; one that is left by an error keeps nothing of what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """
    Stream a file behind a signed URL, without the token; gives the number of bytes. Only workers can.

    :param into: Where to; opened anew for each attempt.
    :param size: Bytes that the file has, where that is known; any other number is an error.
    :param limit: Bytes after which to give up.
    """

    url: str = field(repr=False)
    open_sink: OpenSink
    size: int | None = None
    limit: int | None = None


class Interrupted(BaseException):
    """A flow was stopped from outside; not an ``Exception``, so that nothing retries or forgives it."""


Step = Call[Any] | Sleep | LogLine | Tail
Flow = Generator[Step, Any, T]
FileFlow = Generator[Step | Fetch, Any, T]
"""A flow that also downloads files, which only workers can carry out."""
