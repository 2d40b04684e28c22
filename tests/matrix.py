# SPDX-License-Identifier: Apache-2.0
"""
Run the tests on every Airflow that we support, each in an environment of its own, and print a table.

``python3 -m tests.matrix``, with versions of Airflow as arguments, or without for all. The newest one is also
tested with every later Python that is found. ``--lowest`` tests the lowest version of each requirement
instead. Standard library only: used before anything is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.airflow_versions import LOWEST, MINORS, NEWEST
from tests.support.paths import ROOT

SUITES = ("tests/unit", "tests/provider", "tests/meta")
LOWEST_SUITES = ("tests/unit", "tests/contract", "tests/provider", "tests/meta/test_provider_info.py")
"""What shows whether the lowest versions of the requirements are enough."""
LATEST_PYTHON = (3, 14)
"""The latest Python that the newest Airflow can be installed with."""
LIMIT = 45 * 60.0
"""Seconds for one environment and its tests."""
TAIL = 60
HEADS = ("Airflow", "Python", "passed", "failed", "skipped", "seconds", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One version of Airflow on one version of Python."""

    airflow: str
    python: str
    interpreter: str
    lowest: bool = False

    @property
    def title(self) -> str:
        """Its name in the output."""
        return f"Airflow {self.airflow} on Python {self.python}{', lowest versions' if self.lowest else ''}"

    def command(self, tests: Sequence[str], report: Path) -> list[str]:
        """
        Return the command that runs these tests.

        The newest Airflow on this Python uses the environment of ``python3 -m tests``.
        """
        shares = self.airflow == NEWEST and self.interpreter == sys.executable and not self.lowest
        which = [] if shares else ["--airflow", self.airflow]
        which += ["--lowest"] if self.lowest else []
        # The environments run in parallel, in few processes; each has temporary folders of its own.
        apart = ["-n", "2", "-p", "no:cacheprovider", f"--basetemp={report.with_suffix('')}"]
        return [self.interpreter, "-m", "tests", *which, *tests, "-q", *apart, f"--junitxml={report}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a cell's tests; ``problem`` is why the numbers are not reliable, or empty."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    problem: str = ""

    @property
    def is_good(self) -> bool:
        """Whether no test failed and at least one passed."""
        return self.passed > 0 and not (self.failed or self.problem)


def counted(report: Path, code: int | None) -> Result:
    """
    Read pytest's report.

    :param code: The exit code of pytest; None if it did not end in time.
    """
    if code is None:
        return Result(problem=f"not done after {LIMIT / 60:.0f} minutes")
    try:
        suites = list(ET.parse(report).getroot().iter("testsuite"))
    except (OSError, ET.ParseError):
        return Result(problem=f"ended with {code} and no report")
    names = ("tests", "failures", "errors", "skipped")
    tests, failures, errors, skipped = (sum(int(it.get(name, 0)) for it in suites) for name in names)
    failed = failures + errors
    problem = f"ended with {code}" if code and not failed else ""
    return Result(passed=tests - failed - skipped, failed=failed, skipped=skipped, problem=problem)


def folders_with_pythons() -> list[Path]:
    """Return the folders of interpreters: the path, and those of pyenv that are not on it."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return [*map(Path, os.get_exec_path()), *sorted(pyenv.glob("versions/*/bin"))]


def later_pythons(folders: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """Find one working interpreter of each minor version of Python that is later than this one."""
    places = list(folders)
    for minor in range(sys.version_info.minor + 1, LATEST_PYTHON[1] + 1):
        for place in places:
            found = place / f"python{LATEST_PYTHON[0]}.{minor}"
            if found.exists() and _can_build(found):
                yield f"{LATEST_PYTHON[0]}.{minor}", found
                break


def _can_build(interpreter: Path) -> bool:
    """Return whether an interpreter works and can make virtual environments; a shim may not."""
    command = [str(interpreter), "-c", "import ensurepip, venv"]
    with suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    return False


def own_cell(airflow: str, *, lowest: bool = False) -> Cell:
    """Return an Airflow on this Python."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Cell(airflow=airflow, python=own, interpreter=sys.executable, lowest=lowest)


def cells(airflows: Sequence[str], later: Iterable[tuple[str, Path]]) -> list[Cell]:
    """Return what to test: every Airflow on this Python, and the newest on the later ones."""
    chosen = [own_cell(it) for it in airflows]
    if NEWEST in airflows:
        chosen += [Cell(airflow=NEWEST, python=version, interpreter=str(path)) for version, path in later]
    return chosen


async def test(cell: Cell, tests: Sequence[str], report: Path, log: Path) -> int | None:
    """Run a cell's tests with their output in a log; return pytest's exit code, None after ``LIMIT``."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *cell.command(tests, report), cwd=ROOT, stdout=output, stderr=output, start_new_session=True
        )
    try:
        async with asyncio.timeout(LIMIT):
            return await process.wait()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def test_all(
    wanted: Sequence[Cell], tests: Sequence[str], at_once: int
) -> dict[Cell, tuple[Result, float]]:
    """Run the tests of every cell, several at the same time; return result and seconds of each."""
    logs = ROOT / ".venvs"
    logs.mkdir(exist_ok=True)
    slots = asyncio.Semaphore(at_once)

    async def one(cell: Cell) -> tuple[Result, float]:
        name = f"{'lowest-' if cell.lowest else ''}airflow-{cell.airflow}-python-{cell.python}"
        report, log = Path(folder) / f"{name}.xml", logs / f"{name}.log"
        async with slots:
            print(f"  ..   {cell.title}", flush=True)
            began = time.monotonic()
            result = counted(report, await test(cell, tests, report, log))
        took = time.monotonic() - began
        if not result.is_good:
            print("".join(log.read_text(errors="replace").splitlines(keepends=True)[-TAIL:]))
        print(f"  {'ok' if result.is_good else 'FAIL':4} {cell.title} ({took:.0f} s)", flush=True)
        return result, took

    with tempfile.TemporaryDirectory() as folder:
        async with asyncio.TaskGroup() as group:
            jobs = {cell: group.create_task(one(cell)) for cell in wanted}
    return {cell: job.result() for cell, job in jobs.items()}


def table(results: Mapping[Cell, tuple[Result, float]]) -> str:
    """Return a table of the results with a line for each environment."""
    rows: list[tuple[str, ...]] = [HEADS]
    for cell, (it, took) in results.items():
        counts = (it.passed, it.failed, it.skipped, round(took))
        rows.append((cell.airflow, cell.python, *map(str, counts), it.problem))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def main(arguments: Sequence[str]) -> int:
    """Run the tests on the given versions, and return 0 only if all passed."""
    about = (__doc__ or "").partition("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python3 -m tests.matrix", description=about)
    parser.add_argument("airflow", nargs="*", help=f"any of {', '.join(MINORS)}; all by default")
    parser.add_argument("--at-once", type=int, default=2, help="how many to test at the same time")
    parser.add_argument("--lowest", action="store_true", help=f"lowest versions, with {' or '.join(LOWEST)}")
    parser.add_argument("--tests", nargs="+", help=f"by default {', '.join(SUITES)}")
    parser.add_argument("-m", dest="markers", default="", help="only those with these markers, as for pytest")
    given = parser.parse_args(arguments)
    known = tuple(LOWEST) if given.lowest else MINORS
    if unknown := set(given.airflow) - set(known):
        parser.error(f"there are no constraints for Airflow {', '.join(sorted(unknown))}")
    airflows = given.airflow or known
    if given.lowest:
        chosen = [own_cell(it, lowest=True) for it in airflows]
    else:
        chosen = cells(airflows, later_pythons(folders_with_pythons()))
    tests = [*(given.tests or (LOWEST_SUITES if given.lowest else SUITES)), "-m", given.markers]
    results = asyncio.run(test_all(chosen, tests, given.at_once))
    print(f"\n{table(results)}")
    return 0 if all(result.is_good for result, _ in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
