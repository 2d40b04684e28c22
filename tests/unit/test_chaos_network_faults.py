# SPDX-License-Identifier: Apache-2.0
"""The chaos command breaks connections and requests as its seed says, and pairs a submission with the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_losant.emulator import Emulator
from tests.journeys.chaos.fault_schedule import FaultSchedule
from tests.journeys.chaos.network_faults import (
    EXECUTE,
    FAULTS,
    LOGS,
    PROBABILITIES,
    NetworkFaultSchedule,
    describe,
)
from tests.support.network import LoadBalancer, NetworkFault

ALWAYS = dict.fromkeys(PROBABILITIES, 1.0)
ARRIVALS = ("connect", EXECUTE, LOGS, LOGS, "notebook.cancelExecution", "notebook.get") * 50


class RecordingBalancer(LoadBalancer):
    """Forwards nothing, and keeps what is injected."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0))
        self.injected: list[tuple[str, NetworkFault, float | None]] = []

    def inject(self, operation: str, fault: NetworkFault, times: int = 1, **more: Any) -> None:
        super().inject(operation, fault, times, **more)
        self.injected.append((operation, fault, more["seconds"]))

    def arrive(self, *operations: str) -> None:
        """Let requests and connections arrive, but get no response."""
        for operation in operations:
            assert self.on_arrival is not None
            self.on_arrival(operation)


@pytest.fixture
def balancer() -> RecordingBalancer:
    return RecordingBalancer()


@pytest.fixture(scope="module")
def losant() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def schedule(
    balancer: LoadBalancer,
    losant: Emulator,
    seed: int = 1,
    *,
    in_losant: dict[str, float] | None = None,
    in_network: dict[str, float] | None = None,
) -> NetworkFaultSchedule:
    """Let the network, and Losant if it is said, fail with these probabilities."""
    of_losant = FaultSchedule(losant, seed, in_losant or {})
    return NetworkFaultSchedule(balancer, of_losant, seed, ALWAYS if in_network is None else in_network)


def test_the_seed_decides_what_breaks(losant: Emulator) -> None:
    injected = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        balancer = RecordingBalancer()
        schedule(balancer, losant, seed, in_network=dict(PROBABILITIES))
        balancer.arrive(*ARRIVALS)
        injected[name] = balancer.injected

    assert injected["first"] == injected["again"] != injected["other"]
    assert {operation for operation, *_ in injected["first"]} == PROBABILITIES.keys()


def test_every_fault_of_the_tables_happens(balancer: RecordingBalancer, losant: Emulator) -> None:
    faults = schedule(balancer, losant)
    balancer.arrive(*ARRIVALS * 10)

    for operation, possible in FAULTS.items():
        names = {describe(it) for it in possible}
        counted = {it.removesuffix(" lasting") for it in faults.faults[operation.removeprefix("notebook.")]}
        assert counted == names


def test_a_fault_of_the_log_may_last(balancer: RecordingBalancer, losant: Emulator) -> None:
    faults = schedule(balancer, losant, in_network={LOGS: 1.0})
    balancer.arrive(*[LOGS] * 200)

    durations = [seconds for *_, seconds in balancer.injected if seconds is not None]
    assert all(1.0 <= it <= 4.0 for it in durations)
    assert len(durations) == sum(n for name, n in faults.faults["logs"].items() if name.endswith("lasting"))
    assert 0 < len(durations) < 100


def test_a_broken_submission_may_be_followed_by_another_fault_of_the_log(
    balancer: RecordingBalancer, losant: Emulator
) -> None:
    faults = schedule(balancer, losant, in_network={EXECUTE: 1.0, LOGS: 0.0})
    balancer.arrive(*[EXECUTE] * 200)
    at_once = [operation for operation, *_ in balancer.injected].count(LOGS)
    faults.step(float("inf"))
    later = [operation for operation, *_ in balancer.injected].count(LOGS)

    assert 0 < at_once < later == faults.pairs.total() < 200
    for pair in faults.pairs:
        first, _, second = pair.partition(" then ")
        assert first != second.split()[0]
    assert all(0.0 <= seconds <= 4.0 for operation, _, seconds in balancer.injected if seconds is not None)


def test_a_fault_in_losant_gets_its_pair_too(balancer: RecordingBalancer, losant: Emulator) -> None:
    faults = schedule(balancer, losant, in_losant={EXECUTE: 1.0}, in_network={LOGS: 0.0})
    balancer.arrive(*[EXECUTE] * 20)
    losant.clear_faults()

    assert faults.pairs.total() > 0


def test_without_probabilities_nothing_breaks(balancer: RecordingBalancer, losant: Emulator) -> None:
    faults = schedule(balancer, losant, in_losant={EXECUTE: 1.0}, in_network={})
    balancer.arrive(*ARRIVALS)
    losant.clear_faults()

    assert not balancer.injected
    assert not faults.pairs


def test_a_stopped_schedule_breaks_nothing_more(balancer: RecordingBalancer, losant: Emulator) -> None:
    faults = schedule(balancer, losant)
    faults.stop()

    assert balancer.on_arrival is None
