# SPDX-License-Identifier: Apache-2.0
"""The triggers, in a process of their own: ``python -m tests.benchmarks.waiting ADDRESS CASE``."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from http.client import HTTPConnection, HTTPSConnection
from typing import Any, Self
from urllib.parse import urlsplit

import psutil

from tests.benchmarks.peers import PROVIDERS
from tests.benchmarks.records import Address, Case, Figures, Run

TICK = 0.01
TICKS_PER_SIZE = 10


class Control:
    """Controls the server, over a connection that it does not count."""

    def __init__(self, address: Address) -> None:
        parts = urlsplit(address.url)
        kind = HTTPSConnection if address.ca else HTTPConnection
        self._http = kind(parts.hostname or "", parts.port, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def make_runs(self, seconds: Sequence[float], *, is_spread: bool) -> list[Run]:
        """Make a run for each of these seconds, after which it will end."""
        wanted = {"seconds": seconds, "is_spread": is_spread}
        return [Run(**run) for run in self._request("POST", "runs", json.dumps(wanted))]

    def begin(self) -> float:
        """Let the seconds begin; return the epoch seconds of that."""
        return float(self._request("POST", "begin")["now"])

    def counts(self) -> Mapping[str, Any]:
        """Return the counts of the server since then."""
        return dict(self._request("GET", "counts"))

    def _request(self, method: str, name: str, body: str | None = None) -> Any:
        self._http.request(method, f"/_benchmark/{name}", body)
        return json.load(self._http.getresponse())


class Probe:
    """Measures the lag of the event loop, the length of garbage collections, and the size of the process."""

    def __init__(self) -> None:
        self.lag = self.gc_pause = self._gc_since = 0.0
        self.size = _size()

    async def measure(self) -> None:
        """Measure until cancelled."""
        gc.callbacks.append(self._on_gc)
        try:
            while True:
                for _ in range(TICKS_PER_SIZE):
                    due = time.perf_counter() + TICK
                    await asyncio.sleep(TICK)
                    self.lag = max(self.lag, time.perf_counter() - due)
                self.size = max(self.size, _size())
        finally:
            gc.callbacks.remove(self._on_gc)

    def _on_gc(self, phase: str, _: Mapping[str, int]) -> None:
        if phase == "start":
            self._gc_since = time.perf_counter()
        else:
            self.gc_pause = max(self.gc_pause, time.perf_counter() - self._gc_since)


def measure(case: Case, address: Address) -> Figures:
    """
    Let triggers wait for runs until all have ended.

    :raises RuntimeError: a wait did not end with the right event.
    """
    dice = random.Random(1)
    seconds = [dice.uniform(0, case.seconds) for _ in range(case.waits)]
    with Control(address) as control:
        # The first wait imports modules and reads the connection, which is not part of the cost of a wait.
        asyncio.run(_wait_for_all(case, address, control.make_runs([0.0], is_spread=False), control.begin))
        runs = control.make_runs(seconds, is_spread=case.is_spread)
        gc.collect()
        size, cpu = _size(), time.process_time()
        began, fired, probe = asyncio.run(_wait_for_all(case, address, runs, control.begin))
        cpu = time.process_time() - cpu
        counts = control.counts()
    delays = sorted(at - began - end for at, end in zip(fired, seconds, strict=True))
    return Figures(
        events=len(fired),
        requests=counts["requests"],
        connections=counts["connections"],
        megabytes=counts["megabytes"],
        cpu=cpu,
        kilobytes=(probe.size - size) / 1024 / case.waits,
        lag=probe.lag,
        gc_pause=probe.gc_pause,
        median=_at(delays, 0.5),
        slowest=_at(delays, 0.99),
        server_load=counts["load"],
    )


async def _wait_for_all(
    case: Case, address: Address, runs: Sequence[Run], begin: Callable[[], float]
) -> tuple[float, list[float], Probe]:
    """Return when the seconds began, when each event came, and what was measured meanwhile."""
    provider = PROVIDERS[case.provider]
    probe = Probe()
    measuring = asyncio.create_task(probe.measure())
    triggers = [provider.trigger(case, address, run) for run in runs]
    began = begin()
    waiting = []
    for trigger in triggers:
        # As the triggerer does, so that the first steps of the triggers do not run in one block.
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(_event(trigger, provider.is_right)))
    await asyncio.wait(waiting, timeout=case.seconds + case.patience)
    measuring.cancel()
    problems = [_problem(task) for task in waiting]
    if any(problems):
        lost = [problem for problem in problems if problem]
        raise RuntimeError(f"{len(lost)} of {len(runs)} waits went wrong; the first: {lost[0]}")
    return began, [task.result() for task in waiting], probe


async def _event(trigger: Any, is_right: Callable[[Mapping[str, Any]], bool]) -> float:
    """Return the epoch seconds of the trigger's one event."""
    events = [(time.time(), event.payload) async for event in trigger.run()]
    [(at, payload)] = events
    if not is_right(payload):
        raise ValueError(f"a wrong event: {payload}")
    return at


def _problem(waiting: asyncio.Task[float]) -> str:
    if not waiting.done():
        waiting.cancel()
        return "its event never came"
    error = waiting.exception()
    return "" if error is None else f"{type(error).__name__}: {error}"


def _size() -> int:
    return int(psutil.Process(os.getpid()).memory_info().rss)


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


if __name__ == "__main__":
    _where, _what = (json.loads(argument) for argument in sys.argv[1:])
    print(json.dumps(asdict(measure(Case(**_what), Address(**_where)))))
