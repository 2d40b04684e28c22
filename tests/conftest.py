# SPDX-License-Identifier: Apache-2.0
"""Give the tests an AIRFLOW_HOME of their own, so that none reads or changes the one of the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support import tables
from tests.support.airflow_versions import is_for
from tests.support.run_watcher import watch_this_run

# Airflow reads its settings when first imported, perhaps while pytest collects: so here and not in a fixture.
for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", "OPENLINEAGE_"))]:
    del os.environ[_name]
LOW_PRIORITY = 5
"""Niceness of the workers that run other tests while journeys run: Airflow times out when it gets no CPU."""
_HOME = tempfile.mkdtemp(prefix="losant-airflow-home-")
os.environ["AIRFLOW_HOME"] = _HOME
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS"] = "False"
os.environ["AIRFLOW__API_AUTH__JWT_SECRET"] = "made-up"  # Airflow 3.2 runs no DAG in a process without one


# The workers of pytest-xdist inherit it.
_TABLES = None if tables.VARIABLE in os.environ else tempfile.mkdtemp(prefix="losant-airflow-tables-")
if _TABLES is not None:
    os.environ[tables.VARIABLE] = _TABLES
    _WATCHER = watch_this_run(tables.VARIABLE, Path(_TABLES))


def pytest_unconfigure() -> None:
    """Delete these folders."""
    for folder in filter(None, (_HOME, _TABLES)):
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that apply to other Airflows than this one."""
    airflow = version("apache-airflow")
    for item in items:
        for mark in item.iter_markers("airflow"):
            if not is_for(airflow, **mark.kwargs):
                spans = " and ".join(f"{word} {bound}" for word, bound in mark.kwargs.items())
                item.add_marker(pytest.mark.skip(reason=f"applies to Airflow {spans}"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let the processes of a running Airflow go first, once this worker is done with its own journeys."""
    uses_airflow = item.get_closest_marker("journey") is not None
    is_worker = hasattr(item.config, "workerinput")
    if is_worker and not uses_airflow and os.nice(0) < LOW_PRIORITY:
        os.nice(LOW_PRIORITY - os.nice(0))


@pytest.fixture(scope="session")
def airflow_db() -> Iterator[None]:
    """Create Airflow's metadata database; the few tests that need it are a group of pytest-xdist."""
    # In a process of its own: Airflow 2.11 builds a whole web application to do this, deprecations and all.
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    done = subprocess.run(migrate, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    yield
    from airflow import settings

    if settings.engine is not None:
        settings.engine.dispose()
