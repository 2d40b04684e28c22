# SPDX-License-Identifier: Apache-2.0
"""One real Airflow and one Losant for all journeys; they see each other over sockets only."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

from airflow_provider_losant.emulator import Emulator
from airflow_provider_losant.emulator.seed import Seed
from example_dags.demo.airflow import LocalAirflow
from example_dags.demo.checks import EXAMPLES, SEED
from tests.journeys.postgres import best_database
from tests.journeys.stage import AT_ONCE, AT_ONCE_ON_SQLITE, Ensemble, Stage, is_story

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """
    Mark every journey, and give it the time that real processes need.

    Two Airflows at once are enough for a small machine: the one that most journeys share, and one after the
    other those that some have for themselves.
    """
    for item in items:
        if isinstance(item, pytest.Function) and HERE in item.path.parents:
            item.add_marker(pytest.mark.journey)
            is_shared = "airflow" in item.fixturenames and not hasattr(item.module, "airflow")
            item.add_marker(pytest.mark.xdist_group("shared Airflow" if is_shared else "own Airflow"))
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
        if lone_stage := item.funcargs.get("lone_stage"):
            report.sections.append(("The stage", lone_stage.report()))
    return report


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Let a story be played beside the others of its module, instead of one after the other."""
    if not is_story(pyfuncitem):
        return None
    pyfuncitem.funcargs["ensemble"].end(pyfuncitem)
    return True


@pytest.fixture(scope="session")
def ensemble(
    airflow: LocalAirflow, database: str | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ensemble]:
    """Yield who plays the stories."""
    if Version(version("apache-airflow")) < Version("3.3"):
        pytest.skip("the stories are told of Airflow 3.3; 3.0 does not even retry a task that was killed")
    at_once = AT_ONCE_ON_SQLITE if database is None else AT_ONCE
    players = Ensemble(airflow, tmp_path_factory.mktemp("stages"), at_once)
    yield players
    players.close()


@pytest.fixture
def stage(ensemble: Ensemble, request: pytest.FixtureRequest) -> None:
    """Begin the stories of this module; each gets a :class:`Stage` of its own under this name."""
    assert isinstance(request.node, pytest.Function)
    ensemble.begin(request.node)


@pytest.fixture
def lone_stage(ensemble: Ensemble, airflow: LocalAirflow, tmp_path: Path) -> Iterator[Stage]:
    """Yield a stage to a test that is about to take something from all stories, and so plays alone."""
    ensemble.wait()
    with Stage(airflow, tmp_path) as alone:
        yield alone


@pytest.fixture(scope="session")
def losant() -> Iterator[Emulator]:
    """Yield a Losant that has the notebooks of the examples, and whatever a test adds."""
    with seeded_losant() as emulator:
        yield emulator


@contextmanager
def seeded_losant() -> Iterator[Emulator]:
    """Run a Losant that has the notebooks of the examples."""
    seed = Seed.read(SEED)
    with Emulator() as emulator:
        seed.sow(emulator)
        yield emulator


@pytest.fixture(scope="session")
def database() -> Iterator[str | None]:
    """Yield the address of the stories' database; None stands for an SQLite file."""
    with best_database() as url:
        yield url


@pytest.fixture(scope="session")
def airflow(
    losant: Emulator, database: str | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalAirflow]:
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
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
        # Only after this are the triggers of a triggerer that was killed given to the next.
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
        # Where nobody fires, the deferral timeout is noticed only as often as this.
        "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
    }
    home = tmp_path_factory.mktemp("airflow")
    with LocalAirflow(home, HERE / "dags", env=env, sql_alchemy_conn=database) as running:
        running.add_connection("losant_default", **connection(losant))
        yield running


def connection(losant: Emulator) -> dict[str, object]:
    """Return the fields of the Airflow connection that leads to this Losant."""
    extra = {"application_id": losant.application_id}
    return {"conn_type": "losant", "host": losant.url, "password": losant.token, "extra": extra}
