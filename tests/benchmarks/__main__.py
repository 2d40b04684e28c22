# SPDX-License-Identifier: Apache-2.0
"""
Measure the cost of waits, events, imports and calls: ``python -m tests.benchmarks [--peers]``.

Prints tables, and at the end whether the figures are within their bounds. The exit code is 0 only if all are.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NoReturn

from tests.benchmarks import importing, machine, peer_environment, report
from tests.benchmarks.events import EventFigures
from tests.benchmarks.peers import environment
from tests.benchmarks.processes import run_json, serving
from tests.benchmarks.records import BARE, DATABRICKS, DBT_CLOUD, LOSANT, Address, Case, Figures
from tests.support.progress import Step

if TYPE_CHECKING:
    from tests.benchmarks.report import Claim

PARTS = ("waits", "events", "imports", "calls")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and return 0 only if every measured figure is within its bound."""
    given = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        with TemporaryDirectory(prefix="losant-benchmarks-") as folder:
            claims = list(_measure(given, Path(folder)))
    except KeyboardInterrupt:
        print("Interrupted; everything was stopped.")
        return 130
    except (RuntimeError, OSError) as error:
        print(f"The benchmark failed: {error}")
        return 1
    print("\nShows:", *claims, sep="\n- ")
    return 0 if all(claim.holds for claim in claims) else 1


def _measure(given: argparse.Namespace, folder: Path) -> Iterator[Claim]:
    python = peer_environment.python(folder) if given.peers else Path(sys.executable)
    print(machine.describe(python))
    with serving(folder, is_plain=given.plain) as address:
        env = environment(folder, address)
        if "waits" in given.only:
            rounds: dict[Case, list[Figures]] = {case: [] for case in _cases(given)}
            failed = []
            # In turn, so that other processes of the machine affect all of them.
            for _ in range(given.rounds):
                for case, figures in rounds.items():
                    try:
                        figures.append(run_case(case, address, python, env))
                    except RuntimeError as error:
                        failed.append(report.failure(case, error))
            measured = [(case, Figures.medians(figures)) for case, figures in rounds.items() if figures]
            yield from _show(report.waits(measured), [*report.claims_of_waits(measured), *failed])
            if given.peers:
                yield from _show(report.ratios(measured), ())
            if given.plot:
                from tests.benchmarks import plot

                plot.draw(measured, given.plot)
        if "events" in given.only:
            with Step("Long logs and many endings, with a simulated clock"):
                ended = EventFigures(**run_json(sys.executable, "-m", "tests.benchmarks.events", env=env))
            yield from _show(report.events(ended), report.claims_of_events(ended))
        if "imports" in given.only:
            with Step("Importing operators, each in new processes"):
                imported = importing.measure(python, env, peers=given.peers)
            yield from _show(report.imports(imported), report.claims_of_imports(imported))
        if "calls" in given.only and address.ca:
            arguments = json.dumps(asdict(address)), str(folder)
            with Step("Calling from a worker"):
                called = run_json(sys.executable, "-m", "tests.benchmarks.calling", *arguments, env=env)
            yield from _show(report.calls(called), report.claims_of_calls(called))


def _show(table: str, claims: Iterable[Claim]) -> Iterable[Claim]:
    print(f"\n{table}\n")
    return claims


def run_case(case: Case, address: Address, python: Path, env: Mapping[str, str]) -> Figures:
    """
    Measure one case, its triggers in a process of their own.

    :raises RuntimeError: a wait did not end with the right event.
    """
    where, what = json.dumps(asdict(address)), json.dumps(asdict(case))
    with Step(report.title(case)):
        return Figures(**run_json(python, "-m", "tests.benchmarks.waiting", where, what, env=env))


def _cases(given: argparse.Namespace) -> Iterator[Case]:
    # dbt Cloud's hook supports HTTPS only.
    others = (DATABRICKS,) if given.plain else (DBT_CLOUD, DATABRICKS)
    for waits in given.waits:
        sizes = {"waits": waits, "seconds": given.seconds, "interval": given.interval}
        for is_spread in (False, True):
            yield Case(provider=LOSANT, is_spread=is_spread, **sizes)
        yield Case(provider=BARE, is_spread=True, **sizes)
        # They poll each run separately, whichever notebook it belongs to.
        for provider in others if given.peers else ():
            yield Case(provider=provider, **sizes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=main.__doc__)
    parser.add_argument(
        "--peers", action="store_true", help="measure other providers too, in an environment built for that"
    )
    parser.add_argument(
        "--waits",
        type=lambda text: [int(number) for number in text.split(",")],
        default=[100, 500, 1_000, 2_000, 5_000, 10_000],
        help="waits at the same time, comma separated (100,500,1000,2000,5000,10000)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="measurements, of which the medians count (5)")
    parser.add_argument("--seconds", type=float, default=9.0, help="runs end at random within (9)")
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between two polls (2)")
    parser.add_argument(
        "--plain", action="store_true", help="HTTP instead of HTTPS; without dbt Cloud and without calls"
    )
    parser.add_argument("--plot", type=Path, help="an SVG file for a plot of the waits")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure (all)")
    return parser


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
