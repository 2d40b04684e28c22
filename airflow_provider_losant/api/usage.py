# SPDX-License-Identifier: Apache-2.0
"""The nouns of what notebooks have used: run minutes and endings, day by day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_provider_losant.api.fields import integer, timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class DayCount:
    """
    What the runs of one day came to.

    :param date: The day's beginning.
    :param minutes: Run minutes, whole ones.
    """

    date: datetime
    minutes: int
    completed: int
    errored: int
    canceled: int
    timeout: int

    @classmethod
    def from_api(cls, entry: Mapping[str, Any]) -> DayCount:
        """Read one day of Losant's answer; what it does not mention is zero."""
        names = ("minutes", "completed", "errored", "canceled", "timeout")
        counts = {name: integer(entry, name) or 0 for name in names}
        return cls(date=timestamp(entry, "date"), **counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteCounts:
    """
    What a notebook's runs came to between two instants.

    :param days: Those on which something ran, as Losant lists them.
    """

    start: datetime
    end: datetime
    days: Sequence[DayCount]
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_api(cls, answer: Mapping[str, Any]) -> MinuteCounts:
        """Read Losant's answer."""
        return cls(
            start=timestamp(answer, "start"),
            end=timestamp(answer, "end"),
            days=tuple(DayCount.from_api(entry) for entry in answer["counts"]),
            raw=answer,
        )

    @property
    def minutes(self) -> int:
        """Run minutes of all days together."""
        return sum(day.minutes for day in self.days)
