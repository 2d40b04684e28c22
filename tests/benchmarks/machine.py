# SPDX-License-Identifier: Apache-2.0
"""On what, and with which versions, the figures were found: they mean nothing without."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

from tests.benchmarks.processes import ask

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
    versions = ask(python, "-c", VERSIONS, *PACKAGES, env={})
    processor = named[1] if named else platform.machine()
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    # Whoever else is at work makes every wait longer.
    cores = f"{os.cpu_count()} cores ({processor}), {os.getloadavg()[0]:.1f} of them busy before"
    return f"{datetime.now(UTC):%Y-%m-%d}, {cores}, {system}\n{packages}"
