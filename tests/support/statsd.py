# SPDX-License-Identifier: Apache-2.0
"""A StatsD server on loopback that keeps what it receives."""

from __future__ import annotations

import socket
from collections import deque
from dataclasses import dataclass, field
from threading import Thread
from typing import Self

MOST = 100_000
"""Metrics that are kept; older ones are dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """
    One metric as it was received.

    :param kind: StatsD's letter: ``c`` (counter), ``g`` (gauge) or ``ms`` (duration in milliseconds).
    :param tags: In the form of InfluxDB.
    """

    name: str
    value: float
    kind: str
    tags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, line: str) -> Metric:
        """Parse a line such as ``losant.swept,outcome=left:1|c``."""
        full_name, _, measured = line.rpartition(":")
        value, kind, *_ = measured.split("|")
        name, *tags = full_name.split(",")
        return cls(name=name, value=float(value), kind=kind, tags=dict(it.split("=", 1) for it in tags))


class StatsdServer:
    """
    Receives metrics while a ``with`` block lasts.

    :param prefix: Only metrics whose name begins with this are kept.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._received: deque[Metric] = deque(maxlen=MOST)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._thread = Thread(target=self._receive, daemon=True)

    def __enter__(self) -> Self:
        self._socket.bind(("127.0.0.1", 0))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A datagram of its own ends the thread, which a close would not wake.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            own.sendto(b"", self._socket.getsockname())
        self._thread.join(10)
        self._socket.close()

    @property
    def port(self) -> int:
        """The port to send metrics to."""
        return int(self._socket.getsockname()[1])

    def of(self, name: str) -> list[Metric]:
        """Return the metrics of a name, oldest first."""
        return [it for it in list(self._received) if it.name == self._prefix + name]

    def _receive(self) -> None:
        while datagram := self._socket.recv(65_535):
            for line in datagram.decode().splitlines():
                if line.startswith(self._prefix):
                    self._received.append(Metric.parse(line))
