# SPDX-License-Identifier: Apache-2.0
"""The command: ``python -m tests.journeys.chaos --runs 200 --seed 1``."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import NoReturn, get_args

from tests.journeys.chaos.chaos_run import run_chaos
from tests.journeys.chaos.report import Plan
from tests.support.network import NetworkKind

MODES = {"true": (True,), "false": (False,), "both": (True, False)}
NETWORKS: dict[str, NetworkKind] = {kind.replace(" ", "-"): kind for kind in get_args(NetworkKind)}


def main(arguments: list[str] | None = None) -> int:
    """Carry out one chaos run; return 0 only if each task had exactly one execution of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.journeys.chaos", description=run_chaos.__doc__)
    parser.add_argument("--runs", type=int, default=20, help="tasks, rounded up to a multiple of 5 (20)")
    parser.add_argument(
        "--with-one-try",
        type=int,
        help="more tasks, which have no retries and may fail (a quarter of --runs)",
    )
    parser.add_argument("--seed", type=int, default=1, help="decides what fails (1)")
    parser.add_argument("--deferrable", choices=MODES, default="both", help="wait in the triggerer (both)")
    parser.add_argument(
        "--network",
        choices=NETWORKS,
        default="tls-through-proxy",
        help="what stands between Airflow and Losant (tls-through-proxy)",
    )
    parser.add_argument("--limit", type=float, default=900.0, help="seconds to give up after (900)")
    given = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    plan = Plan(
        runs=given.runs,
        runs_with_one_try=given.runs // 4 if given.with_one_try is None else given.with_one_try,
        seed=given.seed,
        deferrable=MODES[given.deferrable],
        limit=given.limit,
        network=NETWORKS[given.network],
    )
    try:
        report = run_chaos(plan, lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print("Interrupted; everything was stopped.")
        return 130
    print(report)
    return 0 if report.findings.is_clean else 1


def stop(*_: object) -> NoReturn:
    """Do as Ctrl-C does, so that everything that was started is stopped."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
