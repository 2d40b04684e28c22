# SPDX-License-Identifier: Apache-2.0
"""
Send metrics through Airflow's ``Stats``: to StatsD, Datadog or OpenTelemetry, whatever is configured.

``Stats`` is imported by the first metric of a process, and not at all where no backend is configured. A
backend that fails is logged once and disturbs nothing.

Tags have few values: never an id, a name from Losant or a DAG, or a URL.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from typing import Any

from airflow_provider_losant._compat import conf, triggerer_stats

PREFIX = "losant"
PHASES = ("queue", "inputs", "notebook", "outputs")
SECONDS_PER_MINUTE = 60.0

_log = logging.getLogger(__name__)


class Metrics:
    """
    The metrics of one process.

    :param stats: Airflow's ``Stats``; None if no backend is configured.
    :param has_tags: Whether the backend has tags. If not, their values become parts of the name.
    :param hostname: Distinguishes the gauges of several triggerers.
    """

    def __init__(self, stats: Any = None, *, has_tags: bool = True, hostname: str = "") -> None:
        self._stats = stats
        self._has_tags = has_tags
        self._hostname = hostname
        self._has_failed = False

    def count(self, name: str, count: float = 1, **tags: str) -> None:
        """Increment a counter."""
        self._send("incr", name, count, tags)

    def gauge(self, name: str, value: float) -> None:
        """Set a gauge of this machine."""
        self._send("gauge", name, value, {"hostname": self._hostname})

    def timing(self, name: str, seconds: float, **tags: str) -> None:
        """Record a duration."""
        # Airflow converts a timedelta to the unit of its own durations: milliseconds, but for OpenTelemetry
        # and Datadog in Airflow 2.11 seconds, unless [metrics] timer_unit_consistency is set.
        self._send("timing", name, timedelta(seconds=seconds), tags)

    def execution_ended(self, result: Mapping[str, Any]) -> None:
        """
        Count an execution that has ended, with its phases and the run minutes that it has used.

        :param result: The execution, as a task returns it.
        """
        self.count("execution.ended", status=str(result.get("status")))
        spent = result.get("durations") or {}  # an event of another version of this package may have none
        durations = {name: took for name in PHASES if (took := spent.get(name)) is not None}
        for phase, seconds in durations.items():
            self.timing("execution.phase", max(0.0, seconds), phase=phase)
        if "notebook" in durations:
            minutes = max(0.0, durations["notebook"]) / SECONDS_PER_MINUTE
            self.count("execution.minutes", round(minutes, 4))

    @property
    def on_request(self) -> Callable[[str, str], None] | None:
        """What is called with operation and outcome of each request; None if there is no backend."""
        return None if self._stats is None else self._count_request

    def _count_request(self, operation: str, outcome: str) -> None:
        self.count("request", operation=operation, outcome=outcome)

    def _send(self, kind: str, name: str, value: Any, tags: Mapping[str, str]) -> None:
        if self._stats is None:
            return
        full_name, options = f"{PREFIX}.{name}", {"tags": dict(tags)} if tags else {}
        if tags and not self._has_tags:
            # As Airflow does it: a dot would begin another part of the name.
            full_name = ".".join((full_name, *(it.replace(".", "__") for it in tags.values())))
        try:
            getattr(self._stats, kind)(full_name, value, **options)
        except Exception as problem:  # noqa: BLE001 - whatever a backend raises; metrics must not fail a task
            if not self._has_failed:
                _log.warning("Metrics could not be sent (%s)", type(problem).__name__)
            self._has_failed = True


@cache
def in_worker() -> Metrics:
    """Return the metrics of a process that runs a task."""
    return _open(_task_stats)


@cache
def in_triggerer() -> Metrics:
    """Return the metrics of the process that runs triggers."""
    return _open(triggerer_stats, _hostname)


async def prepare_triggerer() -> None:
    """
    Make the metrics of the triggerer without blocking its event loop.

    The first metric makes the backend: it imports modules, and looks up the address of a host.
    """
    if not in_triggerer.cache_info().currsize:
        await asyncio.to_thread(lambda: in_triggerer().gauge("waits", 0))


def _open(stats: Callable[[], Any], hostname: Callable[[], str] = str) -> Metrics:
    try:
        is_datadog, is_statsd = _is_set("statsd_datadog_enabled"), _is_set("statsd_on")
        if not (is_datadog or is_statsd or _is_set("otel_on")):
            return Metrics()
        has_tags = is_datadog or not is_statsd or _is_set("statsd_influxdb_enabled")
        return Metrics(stats(), has_tags=has_tags, hostname=hostname())
    except Exception as problem:  # noqa: BLE001 - as above
        _log.warning("Metrics could not be sent (%s)", type(problem).__name__)
        return Metrics()


def _is_set(option: str) -> bool:
    return bool(conf.getboolean("metrics", option, fallback=False))


def _task_stats() -> Any:
    from airflow.providers.common.compat.sdk import Stats

    return Stats


def _hostname() -> str:
    """Return the name under which Airflow knows this machine."""
    return str(conf.getimport("core", "hostname_callable")())
