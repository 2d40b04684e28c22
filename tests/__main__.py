# SPDX-License-Identifier: Apache-2.0
"""
Pass the tests from a bare Python: build their environment, then hand over to pytest.

``--airflow 3.0`` takes another Airflow than the newest; all other arguments are pytest's.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.support.airflow_versions import CONSTRAINTS, MINORS, NEWEST
from tests.support.environment import ensure
from tests.support.paths import ROOT

EXTRAS = ("test", "docs", "distributed")
SIDE_BY_SIDE = ("-n", "2", "--no-loadscope-reorder")
"""Journeys mostly wait, so what one leaves of two small cores is for others; see ``tests/conftest.py``."""


def python(airflow: str | None = None) -> Path:
    """
    Build the environment of the tests, unless it is there already.

    :param airflow: Which one; by default the newest, in the environment that everything else shares, too.
    """
    if airflow is None:
        return ensure(EXTRAS, CONSTRAINTS[NEWEST])
    name = f"airflow-{airflow}-python-{sys.version_info.major}.{sys.version_info.minor}"
    return ensure(["test"], CONSTRAINTS[airflow], venv=ROOT / ".venvs" / name)


def main(arguments: list[str]) -> None:
    """Become pytest with these arguments, so that its exit code and its closing line are ours."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--airflow", choices=MINORS)
    wanted, theirs = parser.parse_known_args(arguments)
    interpreter = str(python(wanted.airflow))
    sys.stdout.flush()
    os.chdir(ROOT)
    os.execv(interpreter, [interpreter, "-m", "pytest", *SIDE_BY_SIDE, *theirs])


if __name__ == "__main__":
    main(sys.argv[1:])
