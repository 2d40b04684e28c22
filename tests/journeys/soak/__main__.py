# SPDX-License-Identifier: Apache-2.0
"""The command: ``python -m tests.journeys.soak --waits 1000 --minutes 10``."""

from __future__ import annotations

import argparse
import signal
import sys

from tests.journeys.chaos.__main__ import stop
from tests.journeys.soak.soak_run import run_soak


def main(arguments: list[str] | None = None) -> int:
    """Let one triggerer wait for many executions; return 0 only if none is lost and memory does not grow."""
    parser = argparse.ArgumentParser(prog="python -m tests.journeys.soak", description=main.__doc__)
    parser.add_argument("--waits", type=int, default=1000, help="rounded up to a multiple of 50 (1000)")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long all of them wait (10)")
    parser.add_argument("--seed", type=int, default=1, help="decides what fails (1)")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, stop)
    try:
        report = run_soak(given.waits, given.minutes, given.seed, lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print("Interrupted; everything was stopped.")
        return 130
    print(report)
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
