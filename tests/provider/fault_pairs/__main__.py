# SPDX-License-Identifier: Apache-2.0
"""The command: ``python -m tests.provider.fault_pairs``."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

import tests.conftest  # sets AIRFLOW_HOME before Airflow is imported

if TYPE_CHECKING:
    from tests.provider.fault_pairs.runner import Run

INTERVAL = 15.0
"""Seconds between two lines about the progress."""


def main(arguments: list[str] | None = None) -> int:
    """Run pairs of faults; return 0 only if each task had exactly one execution and its result."""
    parser = argparse.ArgumentParser(prog="python -m tests.provider.fault_pairs", description=main.__doc__)
    parser.add_argument("--seed", type=int, default=1, help="decides modes, networks and durations (1)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only pairs whose name contains this")
    parser.add_argument("--workers", type=int, default=24, help="pairs at the same time (24)")
    given = parser.parse_args(arguments)
    try:
        return run(given.seed, given.only, given.workers)
    finally:
        tests.conftest.pytest_unconfigure()


def run(seed: int, only: str, workers: int) -> int:
    """Run the pairs whose name contains a text, print what is not right, and return the exit code."""
    from tests.provider.fault_pairs import task_log
    from tests.provider.fault_pairs.pairs import all_pairs
    from tests.provider.fault_pairs.runner import run_pairs, summary
    from tests.provider.fault_pairs.surroundings import Surroundings

    pairs = [it for it in all_pairs(seed) if only in it.name]
    if not pairs:
        print(f"No pair's name contains {only!r}.")
        return 2
    progress = _Progress(len(pairs))
    with task_log.kept_apart(), Surroundings(min(workers, len(pairs))) as surroundings:
        os.environ.update(surroundings.environment)
        runs = run_pairs(pairs, surroundings, progress)
    unclean = sorted((it for it in runs if not it.is_clean), key=lambda it: it.pair.name)
    for it in unclean:
        print(it, end="\n\n")
    tries = sum(it.try_number for it in runs)
    print(f"seed {seed}, {progress.seconds:.0f} s, {tries} tries")
    print(summary(runs))
    return 1 if unclean else 0


class _Progress:
    """Prints now and then how many tasks have ended."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._ended = self._failed = 0
        self._started = self._printed = time.monotonic()
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def __call__(self, run: Run) -> None:
        with self._lock:
            self._ended += 1
            self._failed += run.state != "success"
            if time.monotonic() - self._printed > INTERVAL:
                self._printed = time.monotonic()
                done = f"{self._ended} of {self._total} tasks have ended, {self._failed} of them failed"
                print(f"{self.seconds:4.0f} s: {done}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
