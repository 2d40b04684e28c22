# SPDX-License-Identifier: Apache-2.0
"""
Run the tests on every Airflow that we support, each in an environment of its own, and print a table.

``python3 -m tests.matrix``, with the versions of Airflow as arguments, or none for all. The newest one is
also tested with every later Python that is found. Standard library only: this runs before anything is
installed.
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

from tests.support.airflow_versions import MINORS, NEWEST
from tests.support.paths import ROOT

SUITES = ("tests/unit", "tests/provider", "tests/meta")
LATEST_PYTHON = (3, 14)
"""The latest Python that the newest Airflow can be installed with."""
LIMIT = 45 * 60.0
"""Seconds for one environment and its tests."""
TAIL = 60
HEADS = ("Airflow", "Python", "passed", "failed", "skipped", "seconds", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One Airflow on one Python."""

    airflow: str
    python: str
    interpreter: str

    @property
    def title(self) -> str:
        """What people call it."""
        return f"Airflow {self.airflow} on Python {self.python}"

    def command(self, tests: Sequence[str], report: Path) -> list[str]:
        """
        Return what runs these tests.

        The newest Airflow on this Python has the environment that ``python3 -m tests`` has.
        """
        shares = self.airflow == NEWEST and self.interpreter == sys.executable
        which = [] if shares else ["--airflow", self.airflow]
        # In one process, because the environments run in parallel; each has temporary folders of its own.
        alone = ["-n", "0", "-p", "no:cacheprovider", f"--basetemp={report.with_suffix('')}"]
        return [self.interpreter, "-m", "tests", *which, *tests, "-q", *alone, f"--junitxml={report}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of a cell's tests; ``trouble`` is why they cannot be trusted, or nothing."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    trouble: str = ""

    @property
    def is_good(self) -> bool:
        """Whether all went as promised; no tests at all is not what was promised."""
        return self.passed > 0 and not (self.failed or self.trouble)


def counted(report: Path, code: int | None) -> Result:
    """
    Read pytest's report.

    :param code: How pytest ended; None if it did not.
    """
    if code is None:
        return Result(trouble=f"not done after {LIMIT / 60:.0f} minutes")
    try:
        suites = list(ET.parse(report).getroot().iter("testsuite"))
    except (OSError, ET.ParseError):
        return Result(trouble=f"ended with {code} and no report")
    names = ("tests", "failures", "errors", "skipped")
    tests, failures, errors, skipped = (sum(int(it.get(name, 0)) for it in suites) for name in names)
    failed = failures + errors
    trouble = f"ended with {code}" if code and not failed else ""
    return Result(passed=tests - failed - skipped, failed=failed, skipped=skipped, trouble=trouble)


def folders_with_pythons() -> list[Path]:
    """Return where interpreters are, also those that pyenv has and does not put on the path."""
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
    """Tell whether it is more than a shim, and can make a virtual environment."""
    command = [str(interpreter), "-c", "import ensurepip, venv"]
    with suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
    return False


def cells(airflows: Sequence[str], later: Iterable[tuple[str, Path]]) -> list[Cell]:
    """Put together what to test: every Airflow on this Python, and the newest on the later ones."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    chosen = [Cell(airflow=it, python=own, interpreter=sys.executable) for it in airflows]
    if NEWEST in airflows:
        chosen += [Cell(airflow=NEWEST, python=version, interpreter=str(path)) for version, path in later]
    return chosen


async def test(cell: Cell, tests: Sequence[str], report: Path, log: Path) -> int | None:
    """Run a cell's tests, all that they print in the log; returns pytest's exit code, None if too slow."""
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
    """Run the tests of every cell, some beside each other, and tell how each of them ends."""
    logs = ROOT / ".venvs"
    logs.mkdir(exist_ok=True)
    gate = asyncio.Semaphore(at_once)

    async def one(cell: Cell) -> tuple[Result, float]:
        name = f"airflow-{cell.airflow}-python-{cell.python}"
        report, log = Path(folder) / f"{name}.xml", logs / f"{name}.log"
        async with gate:
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
    """Lay the results out for people, a line for each environment."""
    rows = [HEADS]
    for cell, (it, took) in results.items():
        counts = (it.passed, it.failed, it.skipped, round(took))
        rows.append((cell.airflow, cell.python, *map(str, counts), it.trouble))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def main(arguments: Sequence[str]) -> int:
    """Test what is asked for, and return 0 only if nothing failed anywhere."""
    about = (__doc__ or "").partition("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python3 -m tests.matrix", description=about)
    parser.add_argument("airflow", nargs="*", help=f"any of {', '.join(MINORS)}; all by default")
    parser.add_argument("--at-once", type=int, default=2, help="how many to test beside each other")
    parser.add_argument("--tests", nargs="+", default=SUITES, help=f"by default {', '.join(SUITES)}")
    wanted = parser.parse_args(arguments)
    if unknown := set(wanted.airflow) - set(MINORS):
        parser.error(f"there are no constraints for Airflow {', '.join(sorted(unknown))}")
    chosen = cells(wanted.airflow or MINORS, later_pythons(folders_with_pythons()))
    results = asyncio.run(test_all(chosen, wanted.tests, wanted.at_once))
    print(f"\n{table(results)}")
    return 0 if all(result.is_good for result, _ in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
