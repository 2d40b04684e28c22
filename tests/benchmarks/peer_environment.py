# SPDX-License-Identifier: Apache-2.0
"""The environment in which other providers' triggers run, beside ours and with the same Airflow."""

from __future__ import annotations

from pathlib import Path

from tests.support.environment import ensure
from tests.support.paths import ROOT

FOLDER = ROOT / ".venv-benchmarks"
CONSTRAINTS = ROOT / "tests" / "constraints" / "airflow-3.3.txt"
PACKAGES = tuple(
    f"apache-airflow-providers-{name}" for name in ("airbyte", "databricks", "dbt-cloud", "http")
)
# Our constraints pin these for the demo's notebooks, at versions that Databricks' client refuses.
NOT_THEIRS = ("numpy==", "pandas==", "python-dateutil==")


def python(folder: Path) -> Path:
    """
    Build the environment, unless it is there and up to date, and return its interpreter.

    :param folder: A temporary one, for the constraints.
    """
    lines = CONSTRAINTS.read_text().splitlines(keepends=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(line for line in lines if not line.startswith(NOT_THEIRS)))
    return ensure([], constraints, packages=PACKAGES, venv=FOLDER)
