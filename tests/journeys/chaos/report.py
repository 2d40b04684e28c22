# SPDX-License-Identifier: Apache-2.0
"""What a storm was to be, and what is told of it afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.journeys.chaos.fault_schedule import ODDS

if TYPE_CHECKING:
    from tests.journeys.chaos.bookkeeping import Account

SHOWN = 10
"""Complaints of each kind that the report tells in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    What to go through.

    :param runs: Tasks, rounded up to whole DAG runs.
    :param seed: Decides what goes wrong, as far as processes let anything decide.
    :param deferrable: The ways to wait; the DAG runs take turns.
    :param limit: Seconds after which what has not ended counts as lost.
    :param odds: By operation, how likely a request at Losant is to be followed by a fault.
    """

    runs: int
    seed: int
    deferrable: Sequence[bool]
    limit: float
    odds: Mapping[str, float] = field(default_factory=lambda: ODDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The account, and what it was taken of."""

    plan: Plan
    account: Account
    faults: Counter[str]
    deaths: Counter[str]
    cancels: int
    seconds: float
    evidence: Path | None

    def __str__(self) -> str:
        it = self.account
        ways = "/".join(str(way).lower() for way in self.plan.deferrable)
        row = {
            "runs": it.tasks,
            "executions": it.executions,
            "adopted": it.adopted,
            "duplicates": len(it.duplicates),
            "orphans": len(it.orphans),
            "lost": len(it.lost),
            "cancels": self.cancels,
        }
        widths = [max(len(name), len(str(value))) for name, value in row.items()]
        lines = [
            "",
            f"seed {self.plan.seed}, deferrable {ways}, {self.seconds:.0f} s, {it.tries} tries",
            f"faults at Losant: {spell(self.faults)}",
            f"deaths in Airflow: {spell(self.deaths)}",
            "  ".join(name.rjust(width) for name, width in zip(row, widths, strict=True)),
            "  ".join(str(value).rjust(width) for value, width in zip(row.values(), widths, strict=True)),
        ]
        for name in ("duplicates", "orphans", "lost"):
            lines += [f"{name}: {complaint}" for complaint in getattr(it, name)[:SHOWN]]
        if self.evidence is not None:
            lines.append(f"Airflow's logs: {self.evidence}")
        return "\n".join(lines)


def spell(counts: Counter[str]) -> str:
    """Write counts in words."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
