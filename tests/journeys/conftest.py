# SPDX-License-Identifier: Apache-2.0
"""One real Airflow and one Losant for all journeys; they see each other over sockets only."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from airflow_provider_losant.emulator import Emulator
from airflow_provider_losant.emulator.seed import Seed
from example_dags.demo.airflow import LocalAirflow
from example_dags.demo.checks import EXAMPLES, SEED

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every journey, and give it the time that real processes need."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.journey)
            item.add_marker(pytest.mark.timeout(240))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what Airflow was doing when a journey fails."""
    report = yield
    airflow = getattr(item, "funcargs", {}).get("airflow")
    if report.failed and airflow is not None:
        logs = sorted((airflow.home / "logs").rglob("attempt=*"), key=lambda path: path.stat().st_mtime)
        for log in logs[-3:]:
            report.sections.append((f"{log.relative_to(airflow.home)}", log.read_text()[-4000:]))
        report.sections.append(("Airflow's components", airflow.tails(15)))
    return report


@pytest.fixture(scope="session")
def losant() -> Iterator[Emulator]:
    """Yield a Losant that has the notebooks of the examples, and whatever a test adds."""
    seed = Seed.read(SEED)
    with Emulator() as emulator:
        seed.sow(emulator)
        yield emulator


@pytest.fixture(scope="session")
def airflow(losant: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAirflow]:
    """Yield an Airflow with the DAGs of the examples and of the journeys, connected to that Losant."""
    if version("apache-airflow").startswith("2."):
        pytest.skip("journeys steer Airflow through the REST API of Airflow 3")
    bundles = [
        {
            "name": name,
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(path)},
        }
        for name, path in {"journeys": HERE / "dags", "examples": EXAMPLES}.items()
    ]
    env = {
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        # Only by this does Airflow notice that a task's process is gone; five minutes are long for a test.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    }
    with LocalAirflow(tmp_path_factory.mktemp("airflow"), HERE / "dags", env=env) as running:
        running.add_connection("losant_default", **connection(losant))
        yield running


def connection(losant: Emulator) -> dict[str, object]:
    """Return the fields of the Airflow connection that leads to this Losant."""
    extra = {"application_id": losant.application_id}
    return {"conn_type": "losant", "host": losant.url, "password": losant.token, "extra": extra}
