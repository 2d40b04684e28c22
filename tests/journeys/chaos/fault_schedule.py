# SPDX-License-Identifier: Apache-2.0
"""Which requests to Losant fail: each decides at random whether the next one of its kind does, and how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING

from airflow_provider_losant.emulator import Fault

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator, Request

HTTP_TIMEOUT = 2.0
"""Seconds after which a task gives up waiting for a response; the ``timeout`` of its connection."""
LONGEST_DELAY = 3.0
"""Seconds after which a submission may still take effect, although its task has given up waiting."""
LONGEST_LAG = 3.0
"""Seconds for which the log may hide an execution; with the delay, less than the tasks' ``max_log_lag``."""
LAG_LASTS = 5.0

FAULTS = (
    Fault("reset_before"),
    Fault("reset_after"),
    Fault("truncated"),
    Fault("server_error"),
    Fault("server_error", processed=True),
    Fault("html"),
    Fault("html", processed=True),
    Fault("hang", seconds=HTTP_TIMEOUT + 1),
    Fault("hang", seconds=HTTP_TIMEOUT + 1, processed=True),
    Fault("slow", seconds=LONGEST_DELAY),
    Fault("slow", seconds=LONGEST_DELAY, processed=True),
    Fault("slow", seconds=HTTP_TIMEOUT / 2),
    Fault("rate_limited", retry_after=1),
    Fault("rate_limited"),
)
PROBABILITIES = {"notebook.execute": 0.3, "notebook.logs": 0.06, "notebook.cancelExecution": 0.25}
BURST_PROBABILITY = 0.2
LONGEST_BURST = 5


class FaultSchedule:
    """
    Inject faults into a Losant.

    :param losant: The Losant whose requests fail.
    :param seed: Decides which request of each operation fails how, and how the log lags.
    :param probabilities: By operation, how likely a request is to be followed by a fault.
    """

    def __init__(
        self, losant: Emulator, seed: int, probabilities: Mapping[str, float] = PROBABILITIES
    ) -> None:
        self.faults: Counter[str] = Counter()
        self._losant = losant
        self._probabilities = probabilities
        self._random = {operation: Random(f"{seed} {operation}") for operation in probabilities}
        self._lag_random = Random(f"{seed} lag")
        self._lag_until = 0.0

    def step(self, requests: Sequence[Request], now: float) -> None:
        """
        Decide what fails next.

        :param requests: Those that Losant received since the last step.
        :param now: Monotonic seconds.
        """
        for request in requests:
            self.decide(request.operation)
        if now >= self._lag_until:
            self._lag_until = now + LAG_LASTS
            self._losant.switches.listing_lag = self._lag_random.choice(
                (0.0, 0.0, LONGEST_LAG / 3, LONGEST_LAG)
            )

    def end_lag(self) -> None:
        """Let the log show everything from now on."""
        self._losant.switches.listing_lag = 0.0

    def decide(self, operation: str) -> str | None:
        """Decide whether the next request of an operation fails; return how."""
        random = self._random.get(operation)
        if random is None or random.random() >= self._probabilities[operation]:
            return None
        fault = random.choice(FAULTS)
        is_burst = fault.kind == "server_error" and random.random() < BURST_PROBABILITY
        times = random.randint(2, LONGEST_BURST) if is_burst else 1
        self._losant.inject(operation, fault, times)
        self.faults[operation.removeprefix("notebook.")] += times
        return fault.kind
