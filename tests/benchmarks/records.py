# SPDX-License-Identifier: Apache-2.0
"""The data that the processes of a benchmark exchange as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import median

LOSANT, DBT_CLOUD, DATABRICKS = "Losant", "dbt Cloud", "Databricks"
BARE = "bare aiohttp"
"""No provider, but the HTTP library alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """
    How to reach the server.

    :param ca: Path of its certificate; empty when it serves plain HTTP.
    """

    url: str
    token: str
    application_id: str
    ca: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """
    A run to wait for, with its ids.

    :param number: Its id in dbt Cloud and Databricks.
    """

    number: int
    notebook_id: str
    execution_id: str
    made_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    One measurement.

    :param provider: The provider whose triggers wait.
    :param waits: Number of triggers.
    :param is_spread: Whether each run has a notebook of its own, or all have the same one.
    :param seconds: The runs end at random times within so many seconds.
    :param interval: Seconds between two polls of a run.
    :param patience: Seconds after the end of a run at which its wait counts as lost.
    """

    provider: str
    waits: int
    is_spread: bool = False
    seconds: float = 9.0
    interval: float = 2.0
    patience: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """
    What one measurement found.

    :param events: Waits that ended with the right event.
    :param requests: As the server counted them.
    :param connections: Distinct TCP connections, as the server counted them.
    :param megabytes: Size of the response bodies, as sent.
    :param cpu: CPU seconds of the process in which the triggers run.
    :param kilobytes: Largest growth of that process, divided by the number of waits.
    :param lag: Largest delay of a timer of the event loop, in seconds.
    :param gc_pause: Seconds of the longest garbage collection, which stops the process. A full one also
        visits all objects of the modules that Airflow has imported.
    :param median: Seconds from the end of a run to its event; the median.
    :param slowest: The same; the 99th percentile.
    :param server_load: Share of one core that the server used. Near 1, the server is what limits the figures.
    """

    events: int
    requests: int
    connections: int
    megabytes: float
    cpu: float
    kilobytes: float
    lag: float
    gc_pause: float
    median: float
    slowest: float
    server_load: float

    @classmethod
    def medians(cls, rounds: Sequence[Figures]) -> Figures:
        """Return the median of each figure."""
        return cls(**{it.name: median(getattr(turn, it.name) for turn in rounds) for it in fields(cls)})
