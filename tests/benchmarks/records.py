# SPDX-License-Identifier: Apache-2.0
"""What the processes of a benchmark tell each other; all of it is flat, to cross as JSON."""

from __future__ import annotations

from dataclasses import dataclass

LOSANT, DBT_CLOUD, DATABRICKS = "Losant", "dbt Cloud", "Databricks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """
    How to reach the server.

    :param ca: Path of the certificate that vouches for it; empty when it speaks plain http.
    """

    url: str
    token: str
    application_id: str
    ca: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """
    One run to wait for, by each of its names.

    :param number: What dbt Cloud and Databricks call it.
    """

    number: int
    notebook_id: str
    execution_id: str
    made_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    One measurement.

    :param contestant: Whose triggers wait.
    :param waits: How many of them.
    :param is_spread: Whether each run has a notebook of its own, or all have the same one.
    :param seconds: The runs end at random instants within this time.
    :param interval: Seconds between two looks at a run.
    :param patience: Seconds after which a run that has ended, and is still waited for, counts as lost.
    """

    contestant: str
    waits: int
    is_spread: bool = False
    seconds: float = 9.0
    interval: float = 2.0
    patience: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """
    What one measurement found.

    :param events: Waits that ended as they had to.
    :param requests: As the server saw them.
    :param connections: Distinct TCP connections, as the server saw them.
    :param megabytes: Bodies of the answers, as they went over the wire.
    :param cpu: Seconds of the process in which the triggers run.
    :param kilobytes: Growth of that process at its largest, for each wait.
    :param lag: Seconds by which a timer of the event loop came late, at the worst.
    :param cleaning: Seconds of the longest garbage collection, which stops everything. A full one also looks
        at all that Airflow has imported.
    :param median: Seconds from the end of a run to its event, in the middle.
    :param slowest: The same, for the slowest but one per cent.
    :param server_load: Share of one core that the server was busy; near 1 it is the server that is measured.
    """

    events: int
    requests: int
    connections: int
    megabytes: float
    cpu: float
    kilobytes: float
    lag: float
    cleaning: float
    median: float
    slowest: float
    server_load: float
