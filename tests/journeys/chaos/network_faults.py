# SPDX-License-Identifier: Apache-2.0
"""Which connections and requests the network breaks, and how: decided at random when each of them arrives."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Final

from tests.journeys.chaos.fault_schedule import HTTP_TIMEOUT
from tests.support.network import NetworkFault
from tests.support.network.faults import CONNECT

if TYPE_CHECKING:
    from tests.journeys.chaos.fault_schedule import FaultSchedule
    from tests.support.network import LoadBalancer

LOGS: Final = "notebook.logs"
EXECUTE: Final = "notebook.execute"

_HANG: Final = HTTP_TIMEOUT + 1
CONNECTION_FAULTS: Final = (
    NetworkFault("alert_handshake"),
    NetworkFault("close_handshake"),
    NetworkFault("plain_http"),
    NetworkFault("close"),
    NetworkFault("reset"),
    NetworkFault("hang", seconds=_HANG),
)
_EITHER_WAY: Final = (
    NetworkFault("alert"),
    NetworkFault("close"),
    NetworkFault("close", close_notify=True),
    NetworkFault("reset"),
    NetworkFault("close_in_head"),
    NetworkFault("close_in_body"),
    NetworkFault("html"),
    NetworkFault("hang", seconds=_HANG),
    NetworkFault("drip_head", size=20),
    NetworkFault("drip_head", size=int(_HANG / 0.05)),
)
"""Faults that may happen before the request has taken effect, or afterwards."""
REQUEST_FAULTS: Final = (
    *_EITHER_WAY,
    *(replace(fault, processed=True) for fault in _EITHER_WAY),
    NetworkFault("close_after_head"),
    NetworkFault("close_after_response"),
)
PAGES: Final = tuple(NetworkFault("html", status=status) for status in (200, 403, 404, 502, 504))
"""Pages of a gateway. Only reading the log gets them all: a 404 for a submission fails a task for good."""
FAULTS: Final[Mapping[str, Sequence[NetworkFault]]] = {
    CONNECT: CONNECTION_FAULTS,
    EXECUTE: REQUEST_FAULTS,
    LOGS: (*REQUEST_FAULTS, *PAGES * 2),
    "notebook.cancelExecution": REQUEST_FAULTS,
}
PROBABILITIES: Final[Mapping[str, float]] = {
    CONNECT: 0.08,
    EXECUTE: 0.25,
    LOGS: 0.05,
    "notebook.cancelExecution": 0.25,
}
"""How likely a connection or a request of each operation is to break."""
LASTING_PROBABILITY: Final = 0.1
"""How likely a fault of the log is to last, so that the log cannot be read for about a fifth of the time."""
LASTS: Final = (1.0, 4.0)
"""Shortest and longest duration, in seconds."""
PAIR_PROBABILITY: Final = 0.4
"""How likely a fault of a submission is to be followed by one of the log, which the task then needs."""
LONGEST_PAIR: Final = 4.0
"""Seconds for which the second fault of a pair lasts at most."""
_SLOW: Final = frozenset({"hang", "slow", "drip_head"})
"""Kinds, of Losant's faults too, for which a task waits until its timeout before it reads the log."""
_SLOW_DELAY: Final = HTTP_TIMEOUT - 0.2


class NetworkFaultSchedule:
    """
    Decide for each connection and each request whether it fails: in the network, in Losant, or in both.

    :param balancer: What stands in front of Losant.
    :param losant: Decides what fails in Losant itself.
    :param seed: Decides which connection, and which request of each operation, fails how.
    :param probabilities: How likely each of them is to fail in the network.
    """

    def __init__(
        self,
        balancer: LoadBalancer,
        losant: FaultSchedule,
        seed: int,
        probabilities: Mapping[str, float] = PROBABILITIES,
    ) -> None:
        self.faults: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """The number of injected faults, by operation and name."""
        self.pairs: Counter[str] = Counter()
        """The number of injected pairs, by the names of both faults."""
        self._balancer = balancer
        self._losant = losant
        self._probabilities = probabilities
        self._random = {operation: Random(f"{seed} network {operation}") for operation in probabilities}
        self._pair_random = Random(f"{seed} pairs")
        self._delayed: list[tuple[float, NetworkFault, float]] = []
        balancer.on_arrival = self._decide

    def step(self, now: float) -> None:
        """Inject the faults of the log that follow a slow fault of a submission; ``now`` is monotonic."""
        for delayed in [it for it in self._delayed if it[0] <= now]:
            self._delayed.remove(delayed)
            self._inject(LOGS, *delayed[1:])

    def stop(self) -> None:
        """Let nothing fail any more in the network."""
        self._balancer.on_arrival = None
        self._balancer.clear_faults()

    def _decide(self, operation: str) -> None:
        in_losant = self._losant.decide(operation)
        in_network = self._break(operation)
        kinds = list(filter(None, (in_losant, in_network)))
        if operation == EXECUTE and kinds and LOGS in self._random:
            self._maybe_pair(kinds)

    def _break(self, operation: str) -> str | None:
        """Let a connection or a request fail with its probability; return how."""
        random = self._random.get(operation)
        if random is None or random.random() >= self._probabilities[operation]:
            return None
        fault = random.choice(FAULTS[operation])
        is_lasting = operation == LOGS and random.random() < LASTING_PROBABILITY
        self._inject(operation, fault, random.uniform(*LASTS) if is_lasting else None)
        return fault.kind

    def _maybe_pair(self, kinds: Sequence[str]) -> None:
        random = self._pair_random
        if random.random() >= PAIR_PROBABILITY:
            return
        fault = random.choice([it for it in FAULTS[LOGS] if not (it.is_delivered or it.kind in kinds)])
        seconds = random.uniform(0.0, LONGEST_PAIR)
        if _SLOW.isdisjoint(kinds):
            self._inject(LOGS, fault, seconds)
        else:
            self._delayed.append((time.monotonic() + _SLOW_DELAY, fault, seconds))
        self.pairs[f"{'/'.join(kinds)} then {describe(fault)}"] += 1

    def _inject(self, operation: str, fault: NetworkFault, seconds: float | None) -> None:
        self._balancer.inject(operation, fault, seconds=seconds)
        name = describe(fault) + (" lasting" if seconds is not None else "")
        self.faults[operation.removeprefix("notebook.")][name] += 1


def describe(fault: NetworkFault) -> str:
    """Return a short name of a fault for the report."""
    parts = [fault.kind, str(fault.status) if fault.kind == "html" else "", "processed" * fault.processed]
    return " ".join(filter(None, parts))
