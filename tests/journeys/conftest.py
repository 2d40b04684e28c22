# SPDX-License-Identifier: Apache-2.0
"""One real Airflow and one Losant for all journeys; they see each other over sockets only."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

from airflow_provider_losant.emulator import Emulator
from airflow_provider_losant.emulator.seed import Seed
from example_dags.demo.checks import EXAMPLES, SEED
from tests.support.airflow_2 import LocalAirflow2
from tests.support.airflow_connection import connection
from tests.support.airflow_versions import examples_beyond
from tests.support.journey import AT_ONCE, AT_ONCE_ON_SQLITE, Ensemble, Stage, is_story
from tests.support.local_airflow import LocalAirflow
from tests.support.postgres import best_database

HERE = Path(__file__).parent
AIRFLOW = Version(version("apache-airflow"))

ALERT = {
    # Only after this are the triggers of a triggerer that was killed given to the next.
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
    # Where nobody fires, the deferral timeout is noticed only as often as this.
    "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
}
# Only by these does Airflow notice that a task's process is gone; five minutes are long for a test.
ALERT_3 = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
}
ALERT_2 = {
    "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "20",
    # For so long a task may run on that was marked successful.
    "AIRFLOW__CORE__TASK_SUCCESS_OVERTIME": "2",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every journey, give it the time that real processes need, and leave out what is not for all."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.journey)
            item.add_marker(pytest.mark.timeout(240))
            if reason := _why_untold(item):
                item.add_marker(pytest.mark.skip(reason=reason))


def _why_untold(item: pytest.Item) -> str | None:
    """Return why a journey is not told of this Airflow; None if it is."""
    if told := item.get_closest_marker("every_airflow"):
        return told.kwargs.get("not_3_0") if AIRFLOW.release[:2] == (3, 0) else None
    if AIRFLOW.major < 3:
        return "of Airflow 2 only the stories for every Airflow are told"
    if Version("3.3") > AIRFLOW and "ensemble" in getattr(item, "fixturenames", ()):
        return "below Airflow 3.3 only the stories for every Airflow are told"
    return None


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
    at_once = AT_ONCE_ON_SQLITE if database is None else AT_ONCE
    folder = tmp_path_factory.mktemp("stages")
    players = Ensemble(airflow, folder, at_once, in_one_go=AIRFLOW.major < 3)
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
    seed = Seed.load(SEED)
    with Emulator() as emulator:
        seed.apply(emulator.backend, emulator.application_id)
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
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    dags.mkdir()
    for name, folder in {"journeys": HERE / "dags", "examples": EXAMPLES}.items():
        (dags / name).symlink_to(folder)
    (dags / ".airflowignore").write_text("\n".join(f"{name}.py" for name in examples_beyond(str(AIRFLOW))))
    kind, settings = (LocalAirflow2, ALERT_2) if AIRFLOW.major < 3 else (LocalAirflow, ALERT_3)
    with kind(home, dags, env=ALERT | settings, sql_alchemy_conn=database) as running:
        running.add_connection("losant_default", **connection(losant))
        yield running
