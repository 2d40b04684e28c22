# SPDX-License-Identifier: Apache-2.0
"""The environment in which the triggers of other providers run, with the same Airflow as ours."""

from __future__ import annotations

from pathlib import Path

from tests.support.airflow_versions import CONSTRAINTS, NEWEST
from tests.support.environment import ensure
from tests.support.paths import ROOT

FOLDER = ROOT / ".venv-benchmarks"
PACKAGES = tuple(
    f"apache-airflow-providers-{name}" for name in ("airbyte", "databricks", "dbt-cloud", "http")
)
# Our constraints pin these for the demo's notebooks, at versions that Databricks' client refuses.
UNPINNED = ("numpy==", "pandas==", "python-dateutil==")


def python(folder: Path) -> Path:
    """
    Build the environment unless it exists and is up to date, and return its interpreter.

    :param folder: A temporary one, for the constraints.
    """
    lines = CONSTRAINTS[NEWEST].read_text().splitlines(keepends=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(line for line in lines if not line.startswith(UNPINNED)))
    return ensure([], constraints, packages=PACKAGES, venv=FOLDER)
