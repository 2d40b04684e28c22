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
"""``logging.Logger.log`` or a compatible callable: a level, a format and its arguments."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait for some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class LogLine:
    """Write a line to the task log."""

    text: str
    level: int = logging.INFO


@dataclass(frozen=True, slots=True)
class Tail:
    """
    Read the end of a file by its signed URL, without the token; the result is its text.

    :param limit: Maximum bytes; the default is as much as a task log should contain.
    """

    url: str = field(repr=False)
    limit: int = 4_000


class Sink(Protocol):
    """A writable binary file."""

    def write(self, content: bytes, /) -> Any:
        """Write the next bytes."""


OpenSink = Callable[[], AbstractContextManager[Sink]]
"""Opens a sink; if the block raises, the sink discards all written bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """
    Download a file by its signed URL, without the token; the result is the number of bytes.

    Only ``Client`` (workers) supports it.

    :param open_sink: Opens where to write the file; called once per attempt.
    :param size: The expected number of bytes, if known; any other number is an error.
    :param limit: Maximum bytes; a longer file is an error.
    """

    url: str = field(repr=False)
    open_sink: OpenSink
    size: int | None = None
    limit: int | None = None


class Interrupted(BaseException):
    """The client was interrupted; not an ``Exception``, so that no handler retries or suppresses it."""


Step = Call[Any] | Sleep | LogLine | Tail
Flow = Generator[Step, Any, T]
FileFlow = Generator[Step | Fetch, Any, T]
"""A flow that also downloads files, which only workers can carry out."""
