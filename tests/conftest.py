# SPDX-License-Identifier: Apache-2.0
"""Give the tests an Airflow of their own; no test sees, or touches, the one of the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support.airflow_versions import is_for

# Airflow reads its settings when first imported, perhaps while pytest collects: so here and not in a fixture.
for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", "OPENLINEAGE_"))]:
    del os.environ[_name]
_HOME = tempfile.mkdtemp(prefix="losant-airflow-home-")
os.environ["AIRFLOW_HOME"] = _HOME
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS"] = "False"
os.environ["AIRFLOW__API_AUTH__JWT_SECRET"] = "made-up"  # Airflow 3.2 runs no DAG in a process without one


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    shutil.rmtree(_HOME, ignore_errors=True)


def _journeys(*names: str) -> set[str]:
    return {f"tests/journeys/test_{name}.py" for name in names}


OWN_AIRFLOW = _journeys("assets", "chaos", "distributed", "lineage", "two_triggerers")
"""Journeys that start an Airflow for themselves."""
UNHURRIED = _journeys("quickstart", "secrets")
"""Journeys that do so, too, and wait for nothing that has to come soon."""


class OneAirflowEach(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """
    Give each process of pytest-xdist a file at a time, but one all journeys that share an Airflow.

    Those with an Airflow of their own go to another, one after the other: two at once are enough. All stories
    in the browser share an Airflow of theirs.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file.startswith("tests/ui/"):
            return "a browser"
        if not file.startswith("tests/journeys/") or file in UNHURRIED:
            return file
        return "their own Airflow" if file in OWN_AIRFLOW else "a shared Airflow"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneAirflowEach:
    """Tell pytest-xdist who gets which tests."""
    return OneAirflowEach(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what is promised for other Airflows than this one."""
    airflow = version("apache-airflow")
    for item in items:
        for mark in item.iter_markers("airflow"):
            if not is_for(airflow, **mark.kwargs):
                spans = " and ".join(f"{word} {bound}" for word, bound in mark.kwargs.items())
                item.add_marker(pytest.mark.skip(reason=f"is about Airflow {spans}"))


@pytest.fixture(scope="session")
def airflow_db() -> Iterator[None]:
    """Create Airflow's metadata database, for the few tests that ask for it."""
    # In a process of its own: Airflow 2.11 builds a whole web application to do this, deprecations and all.
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    done = subprocess.run(migrate, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    yield
    from airflow import settings

    if settings.engine is not None:
        settings.engine.dispose()
