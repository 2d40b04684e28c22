# SPDX-License-Identifier: Apache-2.0
"""
Run the tests from a bare Python: build their environment, then run pytest in it.

``--airflow 3.0`` tests another Airflow than the newest, ``--lowest`` the lowest version of each requirement.
All other arguments are passed to pytest.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.support.airflow_versions import CONSTRAINTS, LOWEST, MINORS, NEWEST
from tests.support.environment import ensure
from tests.support.paths import ROOT

EXTRAS = ("test", "lint", "docs", "distributed", "moto")
WORKERS = ("-n", "5", "--dist", "loadgroup")
"""More workers than cores, because journeys mostly wait. Tests of one ``xdist_group`` run in one worker."""

WARNINGS_OF_OLD_VERSIONS = ("-W", "default")
"""What old versions warn of is mended in later ones, so it fails no test."""


def name(airflow: str, *, lowest: bool = False) -> str:
    """Return the name of an environment on this Python."""
    python = f"python-{sys.version_info.major}.{sys.version_info.minor}"
    return f"{'lowest-' if lowest else ''}airflow-{airflow}-{python}"


def python(airflow: str | None = None, *, lowest: bool = False) -> Path:
    """
    Build the environment of the tests, unless it exists, and return its interpreter.

    :param airflow: A minor version; by default the newest, in the environment that everything else uses.
    :param lowest: With the lowest version of each requirement, in an environment of its own.
    """
    if lowest:
        return ensure(
            ["test"], LOWEST[airflow or NEWEST], venv=ROOT / ".venvs" / name(airflow or NEWEST, lowest=True)
        )
    if airflow is None:
        return ensure(EXTRAS, CONSTRAINTS[NEWEST])
    return ensure(["test"], CONSTRAINTS[airflow], venv=ROOT / ".venvs" / name(airflow))


def main(arguments: list[str]) -> None:
    """Replace this process by pytest, so that its exit code and its last line are those of this command."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--airflow", choices=MINORS)
    parser.add_argument("--lowest", action="store_true")
    given, passed_on = parser.parse_known_args(arguments)
    if given.lowest and given.airflow not in {None, *LOWEST}:
        parser.error(f"the lowest versions are known for Airflow {', '.join(LOWEST)}")
    interpreter = str(python(given.airflow, lowest=given.lowest))
    warnings = WARNINGS_OF_OLD_VERSIONS if given.lowest else ()
    sys.stdout.flush()
    os.chdir(ROOT)
    os.execv(interpreter, [interpreter, "-m", "pytest", *WORKERS, *warnings, *passed_on])


if __name__ == "__main__":
    main(sys.argv[1:])
