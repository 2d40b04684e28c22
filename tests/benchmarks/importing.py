# SPDX-License-Identifier: Apache-2.0
"""The cost of importing operators and sensors in a DAG file, in new processes, beyond ``airflow.sdk``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.benchmarks.processes import run_json
from tests.benchmarks.records import DATABRICKS, DBT_CLOUD, LOSANT
from tests.support.paths import ROOT

ROUNDS = 5
PACKAGE = "airflow_provider_losant"
AIRFLOWS = "airflow.providers"
IMPORTS: Mapping[str, tuple[str, ...]] = {
    DBT_CLOUD: (f"{AIRFLOWS}.dbt.cloud.operators.dbt", f"{AIRFLOWS}.dbt.cloud.sensors.dbt"),
    DATABRICKS: (f"{AIRFLOWS}.databricks.operators.databricks",),
    "Airbyte": (f"{AIRFLOWS}.airbyte.operators.airbyte", f"{AIRFLOWS}.airbyte.sensors.airbyte"),
    "HTTP": (f"{AIRFLOWS}.http.operators.http", f"{AIRFLOWS}.http.sensors.http"),
}
CODE = """
import json, sys, time
import airflow.sdk
known, start = len(sys.modules), time.perf_counter()
import {}
print(json.dumps([(time.perf_counter() - start) * 1000, len(sys.modules) - known]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of an import: milliseconds and modules."""

    milliseconds: float
    modules: int


def measure(python: str | Path, env: Mapping[str, str], *, peers: bool) -> dict[str, Cost]:
    """Import the operators of each provider in turn, several times; return the medians."""
    imports = {LOSANT: _ours(), **(IMPORTS if peers else {})}
    # The first round writes byte code, which later starts of a DAG processor do not.
    env = {name: value for name, value in env.items() if name != "PYTHONDONTWRITEBYTECODE"}
    rounds = [
        {
            name: run_json(python, "-c", CODE.format(", ".join(modules)), env=env)
            for name, modules in imports.items()
        }
        for _ in range(ROUNDS + 1)
    ][1:]
    return {
        name: Cost(
            milliseconds=median(turn[name][0] for turn in rounds),
            modules=int(median(turn[name][1] for turn in rounds)),
        )
        for name in imports
    }


def _ours() -> tuple[str, ...]:
    """Return our modules that a DAG file imports: operator, sensor and decorator."""
    files = [ROOT / PACKAGE / folder / "notebook.py" for folder in ("operators", "sensors", "decorators")]
    return tuple(f"{PACKAGE}.{file.parent.name}.notebook" for file in files if file.exists())
