# SPDX-License-Identifier: Apache-2.0
"""Kill chosen processes of a distributed Airflow in a fixed order, so that each of them is killed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.network import BalancerRequest
    from tests.support.processes import Process

ABSENCE = 5.0
"""Seconds until a process that was killed is started again."""


class OrderedKiller:
    """
    Kill one process after the other with SIGKILL, and start each again.

    :param processes: In the order in which they are killed. The kills are spread evenly over the submissions.
    :param submissions: How many executions will be submitted.
    """

    def __init__(self, processes: Sequence[Process], submissions: int) -> None:
        self.deaths: Counter[str] = Counter()
        self.hit_tasks: set[str] = set()
        share = submissions / (len(processes) + 1)
        self._planned = [(round(share * number), process) for number, process in enumerate(processes, 1)]
        self._killed: list[tuple[float, Process]] = []
        self._submitted = 0

    def step(self, requests: Sequence[BalancerRequest], now: float) -> None:
        """
        Kill the processes that are due, and start those again whose absence is over.

        :param requests: Those on their way to Losant that have come since the last step.
        :param now: Monotonic seconds.
        """
        self._submitted += sum(it.operation == "notebook.execute" for it in requests)
        while self._planned and self._planned[0][0] <= self._submitted:
            _, process = self._planned.pop(0)
            process.kill()
            self.deaths[f"{process.name} SIGKILL"] += 1
            self._killed.append((now + ABSENCE, process))
        for start_at, process in [it for it in self._killed if it[0] <= now]:
            self._killed.remove((start_at, process))
            process.start()

    def finish(self) -> None:
        """Start the processes that are still absent."""
        for _, process in self._killed:
            process.start()
