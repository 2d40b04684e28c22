# SPDX-License-Identifier: Apache-2.0
"""What naming operators and sensors costs a DAG file, in fresh processes and above ``airflow.sdk``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.benchmarks.processes import ask
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
    """What importing added: milliseconds and modules."""

    milliseconds: float
    modules: int


def measure(python: str | Path, env: Mapping[str, str], *, peers: bool) -> dict[str, Cost]:
    """Import everybody's operators in turn, again and again; return the medians."""
    imports = {LOSANT: _ours(), **(IMPORTS if peers else {})}
    # The first round writes byte code, which no later start of a DAG processor has to.
    env = {name: value for name, value in env.items() if name != "PYTHONDONTWRITEBYTECODE"}
    rounds = [
        {
            name: ask(python, "-c", CODE.format(", ".join(modules)), env=env)
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
    """Name what a DAG file imports of ours: operator, sensor and decorator."""
    files = [ROOT / PACKAGE / folder / "notebook.py" for folder in ("operators", "sensors", "decorators")]
    return tuple(f"{PACKAGE}.{file.parent.name}.notebook" for file in files if file.exists())
