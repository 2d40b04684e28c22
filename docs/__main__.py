# SPDX-License-Identifier: Apache-2.0
"""Build the documentation from a bare Python: ``python3 -m docs``."""

from __future__ import annotations

import argparse
import os
import sys

from tests.support.airflow_versions import CONSTRAINTS, NEWEST
from tests.support.environment import ensure
from tests.support.paths import ROOT

DOCS = ROOT / "docs"


def main() -> None:
    """Replace this process by Sphinx, in the environment that the tests use, too."""
    argparse.ArgumentParser(prog="python3 -m docs", description=__doc__).parse_args()
    python = str(ensure(["demo", "docs"], CONSTRAINTS[NEWEST]))
    sys.stdout.flush()
    os.chdir(ROOT)
    sphinx = ["-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    os.execv(python, [python, *sphinx, str(DOCS), str(DOCS / "_build" / "html")])


if __name__ == "__main__":
    main()
