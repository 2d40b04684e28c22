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

from tests.benchmarks.peers import CONTESTANTS
from tests.benchmarks.records import Address, Case, Figures, Run

BEAT = 0.01
BEATS_BETWEEN_WEIGHINGS = 10


class Control:
    """Directs the server, over a connection that it does not count."""

    def __init__(self, address: Address) -> None:
        parts = urlsplit(address.url)
        kind = HTTPSConnection if address.ca else HTTPConnection
        self._wire = kind(parts.hostname or "", parts.port, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()

    def make_runs(self, seconds: Sequence[float], *, is_spread: bool) -> list[Run]:
        """Make a run for each of these seconds, at which it shall end."""
        told = {"seconds": seconds, "is_spread": is_spread}
        return [Run(**run) for run in self._ask("POST", "runs", json.dumps(told))]

    def go(self) -> float:
        """Let the seconds begin; returns when that was."""
        return float(self._ask("POST", "go")["now"])

    def seen(self) -> Mapping[str, Any]:
        """Return what the server has counted since."""
        return dict(self._ask("GET", "seen"))

    def _ask(self, method: str, name: str, body: str | None = None) -> Any:
        self._wire.request(method, f"/_benchmark/{name}", body)
        return json.load(self._wire.getresponse())


class Pulse:
    """Feels how late a timer of the event loop comes, how long Python cleans up, and how large it grows."""

    def __init__(self) -> None:
        self.lag = self.cleaning = self._cleaning_since = 0.0
        self.size = _size()

    async def beat(self) -> None:
        """Go on until cancelled."""
        gc.callbacks.append(self._clean)
        try:
            while True:
                for _ in range(BEATS_BETWEEN_WEIGHINGS):
                    due = time.perf_counter() + BEAT
                    await asyncio.sleep(BEAT)
                    self.lag = max(self.lag, time.perf_counter() - due)
                self.size = max(self.size, _size())
        finally:
            gc.callbacks.remove(self._clean)

    def _clean(self, phase: str, _: Mapping[str, int]) -> None:
        if phase == "start":
            self._cleaning_since = time.perf_counter()
        else:
            self.cleaning = max(self.cleaning, time.perf_counter() - self._cleaning_since)


def measure(case: Case, address: Address) -> Figures:
    """
    Let triggers wait for runs until all have ended.

    :raises RuntimeError: a wait did not end as it had to.
    """
    chance = random.Random(1)
    seconds = [chance.uniform(0, case.seconds) for _ in range(case.waits)]
    with Control(address) as control:
        # What is imported and read at the first wait of all is not the price of a wait.
        asyncio.run(_wait_for_all(case, address, control.make_runs([0.0], is_spread=False), control.go))
        runs = control.make_runs(seconds, is_spread=case.is_spread)
        gc.collect()
        size, cpu = _size(), time.process_time()
        began, fired, pulse = asyncio.run(_wait_for_all(case, address, runs, control.go))
        cpu = time.process_time() - cpu
        seen = control.seen()
    delays = sorted(at - began - end for at, end in zip(fired, seconds, strict=True))
    return Figures(
        events=len(fired),
        requests=seen["requests"],
        connections=seen["connections"],
        megabytes=seen["megabytes"],
        cpu=cpu,
        kilobytes=(pulse.size - size) / 1024 / case.waits,
        lag=pulse.lag,
        cleaning=pulse.cleaning,
        median=_at(delays, 0.5),
        slowest=_at(delays, 0.99),
        server_load=seen["load"],
    )


async def _wait_for_all(
    case: Case, address: Address, runs: Sequence[Run], go: Callable[[], float]
) -> tuple[float, list[float], Pulse]:
    """Return when the seconds began, when each event came, and what was felt meanwhile."""
    contestant = CONTESTANTS[case.contestant]
    pulse = Pulse()
    beating = asyncio.create_task(pulse.beat())
    triggers = [contestant.trigger(case, address, run) for run in runs]
    began = go()
    waiting = []
    for trigger in triggers:
        # As the triggerer does, so that nobody's first steps come all in one.
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(_event(trigger, contestant.is_right)))
    await asyncio.wait(waiting, timeout=case.seconds + case.patience)
    beating.cancel()
    problems = [_problem(task) for task in waiting]
    if any(problems):
        lost = [problem for problem in problems if problem]
        raise RuntimeError(f"{len(lost)} of {len(runs)} waits went wrong; the first: {lost[0]}")
    return began, [task.result() for task in waiting], pulse


async def _event(trigger: Any, is_right: Callable[[Mapping[str, Any]], bool]) -> float:
    """Return when the trigger's one event came."""
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
