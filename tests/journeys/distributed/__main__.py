# SPDX-License-Identifier: Apache-2.0
"""The command: ``python -m tests.journeys.distributed --runs 100``."""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tests.journeys.chaos.__main__ import stop
from tests.journeys.chaos.chaos_run import DAGS, network_environment, run_chaos
from tests.journeys.chaos.report import Plan, Report
from tests.journeys.distributed.airflow import DistributedAirflow
from tests.journeys.distributed.process_deaths import OrderedKiller
from tests.journeys.distributed.redis import LocalRedis
from tests.support.postgres import best_database

if TYPE_CHECKING:
    from tests.support.network import Network


def several_hosts(
    stack: ExitStack, home: Path, network: Network, plan: Plan
) -> tuple[DistributedAirflow, OrderedKiller]:
    """Start an Airflow with Redis, two workers and two triggerers; one of each is killed in turn."""
    database = stack.enter_context(best_database())
    if database is None:
        raise SystemExit("PostgreSQL is not installed (Debian: postgresql)")
    redis = stack.enter_context(LocalRedis(home))
    environment = network_environment(network)
    airflow = DistributedAirflow(home, DAGS, broker=redis.url, sql_alchemy_conn=database, env=environment)
    stack.enter_context(airflow)
    return airflow, OrderedKiller([airflow.workers[0], airflow.triggerer, redis], plan.runs)


def run_distributed(runs: int, limit: float) -> Report:
    """Run deferred tasks while a worker, a triggerer and Redis are killed and started again."""
    plan = Plan(
        runs=runs,
        seed=1,
        deferrable=(True,),
        limit=limit,
        network="direct",
        probabilities={},
        network_probabilities={},
    )
    return run_chaos(plan, lambda line: print(line, flush=True), several_hosts)


def main(arguments: list[str] | None = None) -> int:
    """Run deferred tasks while components are killed in turn; return 0 only if each has one execution."""
    parser = argparse.ArgumentParser(prog="python -m tests.journeys.distributed", description=main.__doc__)
    parser.add_argument("--runs", type=int, default=100, help="tasks, rounded up to a multiple of 5 (100)")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds to give up after (1800)")
    given = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        report = run_distributed(given.runs, given.limit)
    except KeyboardInterrupt:
        print("Interrupted; everything was stopped.")
        return 130
    print(report)
    findings = report.findings
    return 0 if findings.is_clean and findings.executions == findings.tasks else 1


if __name__ == "__main__":
    sys.exit(main())
