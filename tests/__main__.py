# SPDX-License-Identifier: Apache-2.0
"""
Run the tests from a bare Python: build their environment, then run pytest in it.

``--airflow 3.0`` tests another Airflow than the newest. All other arguments are passed to pytest.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.support.airflow_versions import CONSTRAINTS, MINORS, NEWEST
from tests.support.environment import ensure
from tests.support.paths import ROOT

EXTRAS = ("test", "lint", "docs", "distributed")
WORKERS = ("-n", "4", "--dist", "loadgroup")
"""More workers than cores, because journeys mostly wait. Tests of one ``xdist_group`` run in one worker."""


def python(airflow: str | None = None) -> Path:
    """
    Build the environment of the tests, unless it exists, and return its interpreter.

    :param airflow: A minor version; by default the newest, in the environment that everything else uses.
    """
    if airflow is None:
        return ensure(EXTRAS, CONSTRAINTS[NEWEST])
    name = f"airflow-{airflow}-python-{sys.version_info.major}.{sys.version_info.minor}"
    return ensure(["test"], CONSTRAINTS[airflow], venv=ROOT / ".venvs" / name)


def main(arguments: list[str]) -> None:
    """Replace this process by pytest, so that its exit code and its last line are those of this command."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--airflow", choices=MINORS)
    given, passed_on = parser.parse_known_args(arguments)
    interpreter = str(python(given.airflow))
    sys.stdout.flush()
    os.chdir(ROOT)
    os.execv(interpreter, [interpreter, "-m", "pytest", *WORKERS, *passed_on])


if __name__ == "__main__":
    main(sys.argv[1:])
