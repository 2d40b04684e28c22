# SPDX-License-Identifier: Apache-2.0
"""Pass the tests from a bare Python: build their environment, then hand over to pytest."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from example_dags.demo.environment import ensure

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("test", "docs")
SIDE_BY_SIDE = ("-n", "2", "--dist", "loadgroup")
"""Journeys mostly wait, so what they leave of two small cores is for other tests."""
CONSTRAINTS = ROOT / "tests" / "constraints" / "airflow-3.3.txt"


def python() -> Path:
    """Build the environment that the tests and ``.ci/run`` share, unless it is there already."""
    return ensure(EXTRAS, CONSTRAINTS)


def main(arguments: list[str]) -> None:
    """Become pytest with these arguments, so that its exit code and its closing line are ours."""
    interpreter = str(python())
    sys.stdout.flush()
    os.chdir(ROOT)
    os.execv(interpreter, [interpreter, "-m", "pytest", *SIDE_BY_SIDE, *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
