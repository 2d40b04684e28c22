# SPDX-License-Identifier: Apache-2.0
"""How many run minutes notebooks have used, and how their executions ended, per day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_provider_losant.api.fields import integer, timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class DayCount:
    """
    The usage of one day.

    :param date: The start of the day.
    :param minutes: Run minutes, as a whole number.
    :param completed: Number of executions that completed; ``errored``, ``canceled`` and ``timeout`` likewise.
    """

    date: datetime
    minutes: int
    completed: int
    errored: int
    canceled: int
    timeout: int

    @classmethod
    def from_api(cls, entry: Mapping[str, Any]) -> DayCount:
        """Parse one day of Losant's response; a missing number is zero."""
        names = ("minutes", "completed", "errored", "canceled", "timeout")
        counts = {name: integer(entry, name) or 0 for name in names}
        return cls(date=timestamp(entry, "date"), **counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteCounts:
    """
    A notebook's usage between two timestamps.

    :param days: The days with executions, as Losant lists them.
    """

    start: datetime
    end: datetime
    days: Sequence[DayCount]
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_api(cls, response: Mapping[str, Any]) -> MinuteCounts:
        """Parse Losant's response."""
        return cls(
            start=timestamp(response, "start"),
            end=timestamp(response, "end"),
            days=tuple(DayCount.from_api(entry) for entry in response["counts"]),
            raw=response,
        )

    @property
    def minutes(self) -> int:
        """The run minutes of all days."""
        return sum(day.minutes for day in self.days)
