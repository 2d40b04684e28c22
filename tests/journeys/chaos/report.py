# SPDX-License-Identifier: Apache-2.0
"""The settings of a chaos run, and its printed summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.journeys.chaos import network_faults
from tests.journeys.chaos.fault_schedule import PROBABILITIES

if TYPE_CHECKING:
    from tests.journeys.chaos.bookkeeping import Findings
    from tests.support.network import NetworkKind

SHOWN = 10
"""Findings of each kind that the summary describes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    The settings of a chaos run.

    :param runs: Tasks with retries, rounded up to whole DAG runs.
    :param runs_with_one_try: Tasks without retries, which may fail; also rounded up.
    :param seed: Decides what fails, as far as the timing of processes allows.
    :param deferrable: The modes of waiting; the DAG runs alternate between them.
    :param limit: Seconds after which tasks that have not ended count as lost.
    :param network: What stands between Airflow and Losant.
    :param probabilities: By operation, how likely a request is to fail in Losant.
    :param network_probabilities: By operation, how likely a connection or a request is to fail on its way.
    """

    runs: int
    seed: int
    deferrable: Sequence[bool]
    limit: float
    network: NetworkKind = "tls through proxy"
    probabilities: Mapping[str, float] = field(default_factory=lambda: PROBABILITIES)
    runs_with_one_try: int = 0
    network_probabilities: Mapping[str, float] = field(default_factory=lambda: network_faults.PROBABILITIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    The summary of a chaos run.

    :param network_faults: By operation.
    :param pairs: Faults of a submission that were followed at once by one of the log.
    :param evidence: The folder of Airflow's logs, kept only when there is something to explain.
    """

    plan: Plan
    findings: Findings
    faults: Counter[str]
    network_faults: Mapping[str, Counter[str]]
    pairs: Counter[str]
    deaths: Counter[str]
    cancels: int
    seconds: float
    evidence: Path | None

    def __str__(self) -> str:
        it = self.findings
        modes = "/".join(str(mode).lower() for mode in self.plan.deferrable)
        row = {
            "tasks": it.tasks,
            "executions": it.executions,
            "reconnected": it.reconnected,
            "duplicates": len(it.duplicates),
            "orphans": len(it.orphans),
            "lost": len(it.lost),
            "failed": it.failed,
            "left to the sweep": it.left_to_sweep,
            "cancels": self.cancels,
        }
        widths = [max(len(name), len(str(value))) for name, value in row.items()]
        lines = [
            "",
            f"seed {self.plan.seed}, deferrable {modes}, network: {self.plan.network}",
            f"{self.seconds:.0f} s, {it.tries} tries",
            f"faults in Losant: {format_counts(self.faults)}",
            *(
                f"faults in the network, {name}: {format_counts(faults)}"
                for name, faults in sorted(self.network_faults.items())
            ),
            f"pairs of faults, of a submission and the log: {format_counts(self.pairs)}",
            f"processes killed in Airflow: {format_counts(self.deaths)}",
            "  ".join(name.rjust(width) for name, width in zip(row, widths, strict=True)),
            "  ".join(str(value).rjust(width) for value, width in zip(row.values(), widths, strict=True)),
        ]
        for name in ("duplicates", "orphans", "lost"):
            lines += [f"{name}: {finding}" for finding in getattr(it, name)[:SHOWN]]
        if self.evidence is not None:
            lines.append(f"Airflow's logs: {self.evidence}")
        return "\n".join(lines)


def format_counts(counts: Counter[str]) -> str:
    """Return names and numbers, separated by commas."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
