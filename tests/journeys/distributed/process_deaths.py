# SPDX-License-Identifier: Apache-2.0
"""Who dies in a distributed Airflow, and when: not by chance, so that everybody's turn comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Request
    from tests.support.processes import Process

ABSENCE = 5.0
"""Seconds until one that was killed is started again."""


class Turns:
    """
    Kill one process after the other as if the power failed, and start each again.

    :param victims: In the order of their deaths, which are spread over all orders but the first and last.
    :param orders: How many executions are going to be ordered.
    """

    def __init__(self, victims: Sequence[Process], orders: int) -> None:
        self.deaths: Counter[str] = Counter()
        share = orders / (len(victims) + 1)
        self._due = [(round(share * number), victim) for number, victim in enumerate(victims, 1)]
        self._gone: list[tuple[float, Process]] = []
        self._seen = 0

    def turn(self, requests: Sequence[Request], now: float) -> None:
        """
        Let those die whose turn has come, and others come back.

        :param requests: What Losant saw since the last turn.
        """
        self._seen += sum(it.operation == "notebook.execute" for it in requests)
        while self._due and self._due[0][0] <= self._seen:
            _, victim = self._due.pop(0)
            victim.kill()
            self.deaths[f"{victim.name} SIGKILL"] += 1
            self._gone.append((now + ABSENCE, victim))
        for back_at, victim in [it for it in self._gone if it[0] <= now]:
            self._gone.remove((back_at, victim))
            victim.start()

    def end(self) -> None:
        """Leave nobody dead."""
        for _, victim in self._gone:
            victim.start()
