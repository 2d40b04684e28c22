# SPDX-License-Identifier: Apache-2.0
"""What goes wrong between Airflow and Losant: each request rolls the dice for the one after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

from airflow_provider_losant.emulator import Fault

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator, Request

HTTP_TIMEOUT = 2.0
"""Seconds that the tasks' connection gives Losant to answer."""
LATEST_LANDING = 3.0
"""Seconds after which an order that nobody waits for any more may still take effect."""
LONGEST_LAG = 3.0
"""Seconds for which the log may hide an execution; with the landing, less than the tasks' patience."""
LAG_LASTS = 5.0

LOSSES = (
    Fault("reset_before"),
    Fault("reset_after"),
    Fault("truncated"),
    Fault("server_error"),
    Fault("server_error", processed=True),
    Fault("html"),
    Fault("html", processed=True),
    Fault("hang", seconds=HTTP_TIMEOUT + 1),
    Fault("hang", seconds=HTTP_TIMEOUT + 1, processed=True),
    Fault("slow", seconds=LATEST_LANDING),
    Fault("slow", seconds=LATEST_LANDING, processed=True),
    Fault("slow", seconds=HTTP_TIMEOUT / 2),
    Fault("rate_limited", retry_after=1),
    Fault("rate_limited"),
)
ODDS = {"notebook.execute": 0.3, "notebook.logs": 0.06, "notebook.cancelExecution": 0.25}
BURST_ODDS = 0.2
LONGEST_BURST = 5


class Weather:
    """
    Bring faults upon a Losant.

    :param losant: The Losant to spoil.
    :param seed: Decides which request of each operation meets which fault, and how the log lags.
    :param odds: By operation, how likely a request is to be followed by a fault.
    """

    def __init__(self, losant: Emulator, seed: int, odds: Mapping[str, float] = ODDS) -> None:
        self.faults: Counter[str] = Counter()
        self._losant = losant
        self._odds = odds
        self._dice = {operation: Random(f"{seed} {operation}") for operation in odds}
        self._lag_dice = Random(f"{seed} lag")
        self._lag_until = 0.0

    def turn(self, requests: Sequence[Request], now: float) -> None:
        """
        Let the weather change.

        :param requests: What Losant saw since the last turn.
        """
        for request in requests:
            if request.operation in self._odds:
                self._roll(request.operation)
        if now >= self._lag_until:
            self._lag_until = now + LAG_LASTS
            self._losant.switches.listing_lag = self._lag_dice.choice(
                (0.0, 0.0, LONGEST_LAG / 3, LONGEST_LAG)
            )

    def clear_up(self) -> None:
        """Let the log show everything from now on."""
        self._losant.switches.listing_lag = 0.0

    def _roll(self, operation: str) -> None:
        dice = self._dice[operation]
        if dice.random() >= self._odds[operation]:
            return
        fault = dice.choice(LOSSES)
        is_burst = fault.kind == "server_error" and dice.random() < BURST_ODDS
        times = dice.randint(2, LONGEST_BURST) if is_burst else 1
        self._losant.inject(operation, fault, times)
        self.faults[operation.removeprefix("notebook.")] += times
