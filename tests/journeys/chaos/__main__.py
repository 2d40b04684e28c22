# SPDX-License-Identifier: Apache-2.0
"""The command: ``python -m tests.journeys.chaos --runs 200 --seed 1``."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import NoReturn

from tests.journeys.chaos.chaos_run import ride_out
from tests.journeys.chaos.report import Plan

WAYS = {"true": (True,), "false": (False,), "both": (True, False)}


def main(arguments: list[str] | None = None) -> int:
    """Ride out one storm; return 0 only if each task had exactly one run of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.journeys.chaos", description=ride_out.__doc__)
    parser.add_argument("--runs", type=int, default=20, help="tasks, rounded up to a multiple of 5 (20)")
    parser.add_argument("--seed", type=int, default=1, help="decides what goes wrong (1)")
    parser.add_argument("--deferrable", choices=WAYS, default="both", help="wait in the triggerer (both)")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds to give up after (900)")
    given = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    plan = Plan(runs=given.runs, seed=given.seed, deferrable=WAYS[given.deferrable], limit=given.limit)
    try:
        report = ride_out(plan, tell=lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print("Interrupted; everything was stopped.")
        return 130
    print(report)
    return 0 if report.account.is_clean else 1


def stop(*_: object) -> NoReturn:
    """Unwind as after Ctrl-C, so that everything that was started is stopped."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
