# SPDX-License-Identifier: Apache-2.0
"""Parsing a DAG is cheap: importing operators and sensors loads nothing that only their execution needs."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from airflow_provider_losant._compat import AIRFLOW_3
from tests.support.airflow_versions import examples_beyond
from tests.support.paths import ROOT
from tests.support.source_files import PACKAGE

# What a DAG file loads anyway, and what it loads on top when it names ours, which it uses in the same way.
SDK = "airflow.sdk" if AIRFLOW_3 else "airflow.providers.common.compat.sdk"
CLASSES = f"from {SDK} import DAG, BaseOperator, BaseOperatorLink, BaseSensorOperator\n"
OUR_CLASSES = f"import {PACKAGE}.operators.notebook, {PACKAGE}.sensors.notebook\n"
TASKFLOW = f"from {SDK} import task; task.python\n"
OUR_TASKFLOW = f"import {PACKAGE}.decorators.notebook\n"
MOST = 16
"""Modules of any kind that naming them may add; each is loaded whenever a DAG file is parsed."""
ONLY_FOR_RUNNING = (
    "aiohttp",
    "requests",
    "nbclient",
    "openlineage",
    "pandas",
    "airflow.providers.openlineage",
    f"{PACKAGE}.api.http.client",
    f"{PACKAGE}.api.http.async_client",
    f"{PACKAGE}.emulator",
    f"{PACKAGE}.openlineage.emit",
    f"{PACKAGE}.openlineage.collect",
    f"{PACKAGE}.triggers",
)
EXAMPLES = sorted((ROOT / "example_dags").glob("*.py"))


def loaded_by(code: str) -> set[str]:
    """Return the names of the modules that a new Python process has loaded after running this code."""
    report = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return set(names)


@pytest.mark.parametrize(
    ("bare", "ours"),
    [(CLASSES, OUR_CLASSES), (CLASSES + TASKFLOW, OUR_CLASSES + OUR_TASKFLOW)],
    ids=["classes", "taskflow"],
)
def test_importing_operators_loads_nothing_that_only_execution_needs(bare: str, ours: str) -> None:
    added = loaded_by(bare + ours) - loaded_by(bare)
    print(f"ours add {len(added)} modules: {' '.join(sorted(added))}")

    assert len(added) <= MOST
    assert {
        name for name in added for heavy in ONLY_FOR_RUNNING if f"{name}.".startswith(f"{heavy}.")
    } == set()


def test_there_are_example_dags() -> None:
    assert [file for file in EXAMPLES if file.name != "__init__.py"] != []


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_loads_without_an_error_or_a_warning(file: Path) -> None:
    if file.stem in examples_beyond(version("apache-airflow")):
        pytest.skip("needs a later Airflow")
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # before Airflow 3.2
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]  # the same class

    bag = DagBag(file)

    assert bag.import_errors == {}
    assert bag.captured_warnings == {}
    assert bag.dags or file.name == "__init__.py"
