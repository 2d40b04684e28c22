# SPDX-License-Identifier: Apache-2.0
"""The machine and the versions that the figures belong to."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.processes import run_json

PACKAGES = (
    "apache-airflow",
    "aiohttp",
    "requests",
    "losant-rest",
    "apache-airflow-providers-airbyte",
    "apache-airflow-providers-databricks",
    "apache-airflow-providers-dbt-cloud",
    "apache-airflow-providers-http",
)
VERSIONS = """
import importlib.metadata, json, sys
found = {it.name: it.version for it in importlib.metadata.distributions()}
print(json.dumps({name: found[name] for name in sys.argv[1:] if name in found}))
"""


def describe(python: Path) -> str:
    """
    Describe this machine and an environment on it.

    :param python: The environment's interpreter.
    """
    cpu = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.+)", cpu.read_text()) if cpu.exists() else None
    versions = run_json(python, "-c", VERSIONS, *PACKAGES, env={})
    processor = named[1] if named else platform.machine()
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    # Other processes make every wait longer.
    cores = f"{os.cpu_count()} cores ({processor}), {os.getloadavg()[0]:.1f} of them busy before"
    return f"{datetime.now(UTC):%Y-%m-%d}, {cores}, {system}\n{packages}"
