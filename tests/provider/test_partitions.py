# SPDX-License-Identifier: Apache-2.0
"""Partitioned assets: the events of outlets, aliases and watchers in Airflow's own database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_losant.assets.notebook import create_asset, notebook_asset
from airflow_provider_losant.emulator import Emulator
from airflow_provider_losant.triggers.notebook import LosantNotebookEventTrigger
from tests.provider.conftest import IN_AIRFLOW_DATABASE, dag_bundle, set_connection
from tests.support.factories import BRIEF
from tests.support.paths import ROOT

pytestmark = [pytest.mark.airflow(since="3.2"), *IN_AIRFLOW_DATABASE]
with_dates = pytest.mark.airflow(since="3.3")

DAGS = Path(__file__).parent / "dags"
HOUR = datetime(2026, 3, 5, 13, tzinfo=UTC)
KEY = "2026-03-05T13:00:00"
ENERGY_REPORT, APPLICATION = "67a2f1b4e5b1a2000d6f4c21", "575ec8687ae143cd83dc4a97"


@dataclass(frozen=True, kw_only=True)
class Event:
    """An asset event in Airflow's database."""

    asset: str
    task_id: str | None
    partition_key: str | None
    extra: dict[str, Any]


def events() -> Sequence[Event]:
    """Return all asset events, oldest first."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    columns = (AssetModel.uri, AssetEvent.source_task_id, AssetEvent.partition_key, AssetEvent.extra)
    with create_session() as session:
        found = select(*columns).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        return [
            Event(asset=asset, task_id=task_id, partition_key=key, extra=extra)
            for asset, task_id, key, extra in session.execute(found.order_by(AssetEvent.id))
        ]


def planned(dag_id: str) -> list[str]:
    """Return the partitions for which Airflow is going to start a DAG."""
    from airflow.models.asset import AssetPartitionDagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        row = AssetPartitionDagRun
        return list(session.scalars(select(row.partition_key).where(row.target_dag_id == dag_id)))


@contextmanager
def partitioned(folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """
    Let Airflow find DAGs in a folder, and give each DAG run a partition, as its scheduler does.

    The other DAGs are not paused, so that events start them.
    """
    from airflow.models.dag import DagModel
    from sqlalchemy import update

    models: Any = import_module("airflow.models.dagrun")
    create = models.get_or_create_dagrun

    def create_with_partition(**arguments: Any) -> Any:
        run = create(**arguments)
        run.partition_key, run.partition_date = KEY, HOUR
        arguments["session"].execute(update(DagModel).values(is_paused=False))
        arguments["session"].commit()
        return run

    with dag_bundle(folder) as patch:
        patch.setattr(models, "get_or_create_dagrun", create_with_partition)
        yield patch


# -- outlets ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The events of a DAG run with a partition."""

    by_task: dict[str, list[Event]]
    results: dict[str, Any]
    notebook_uri: str


@pytest.fixture(scope="module")
def finished(airflow_db: None) -> Finished:
    from tests.provider.dags.partitions import partitions

    with Emulator() as losant, partitioned(DAGS) as patch:
        set_connection(patch, losant)
        notebook = losant.add_notebook("Report")
        losant.script(notebook, BRIEF)
        dag_run = partitions.test(logical_date=None, run_conf={"notebook": notebook})
        tasks = {ti.task_id: ti for ti in dag_run.get_task_instances()}
        fired = events()
        return Finished(
            by_task={name: [it for it in fired if it.task_id == name] for name in tasks},
            results={name: ti.xcom_pull(task_ids=name) for name, ti in tasks.items()},
            notebook_uri=notebook_asset(notebook).uri,
        )


@pytest.mark.parametrize("task_id", ["waiting", "deferred"])
def test_an_outlet_event_carries_the_partition_key_of_its_dag_run(finished: Finished, task_id: str) -> None:
    (event,) = finished.by_task[task_id]

    assert event.partition_key == KEY
    assert event.extra["execution_id"] == finished.results[task_id]["execution_id"]


def test_the_event_of_an_alias_carries_the_partition_key_of_its_dag_run(finished: Finished) -> None:
    (event,) = finished.by_task["alias"]

    assert (event.asset, event.partition_key) == (finished.notebook_uri, KEY)
    assert event.extra["execution_id"] == finished.results["alias"]["execution_id"]


@with_dates
def test_each_partition_that_a_task_adds_to_its_event_gets_an_event_with_the_execution(
    finished: Finished,
) -> None:
    own = finished.by_task["own"]

    assert sorted(it.partition_key or "" for it in own) == ["north", "south"]
    assert {it.extra["execution_id"] for it in own} == {finished.results["own"]["execution_id"]}


# -- the example ------------------------------------------------------------------------------------------


def run_example(folder: Path) -> Any:
    """Run the DAG of the example; returns the state of its task."""
    from airflow.dag_processing.dagbag import DagBag

    text = (ROOT / "example_dags" / "losant_report_partitions.py").read_text()
    (folder / "example.py").write_text(text.replace("deferrable=True", "poll_interval=0.02"))
    dag_run = DagBag(folder).dags["losant_report_partitions"].test(logical_date=None)
    (ti,) = dag_run.get_task_instances()
    return ti.state


@pytest.fixture
def energy_report(losant: Emulator) -> str:
    """Make the notebook of the example."""
    losant.add_notebook("Energy report", notebook_id=ENERGY_REPORT)
    losant.script(ENERGY_REPORT, BRIEF)
    return ENERGY_REPORT


@with_dates
@pytest.mark.usefixtures("airflow_db", "losant_connection", "energy_report")
def test_the_example_runs_the_notebook_up_to_the_partition_and_starts_a_dag_for_it(tmp_path: Path) -> None:
    with partitioned(tmp_path):
        assert run_example(tmp_path) == "success"

    (event,) = [it for it in events() if it.task_id == "report"]
    assert event.partition_key == KEY
    assert event.extra["relative_to"] == "2026-03-05T13:00:00.000Z"
    assert planned("losant_bill_partitions") == [KEY]


@with_dates
@pytest.mark.usefixtures("airflow_db", "losant_connection", "energy_report")
def test_without_a_partition_the_example_submits_nothing(losant: Emulator, tmp_path: Path) -> None:
    with dag_bundle(tmp_path):
        assert run_example(tmp_path) == "failed"

    assert losant.requests == []


# -- watchers ---------------------------------------------------------------------------------------------


def test_an_event_of_a_watcher_carries_no_partition_key(airflow_db: None) -> None:
    from airflow.models.asset import AssetActive, AssetModel
    from airflow.models.trigger import Trigger
    from airflow.triggers.base import TriggerEvent
    from airflow.utils.session import create_session

    watched = create_asset(notebook_id=ENERGY_REPORT, application_id=APPLICATION, output="watched.csv")
    with create_session() as session:
        asset = AssetModel(name=watched.name, uri=watched.uri)
        trigger = Trigger.from_object(LosantNotebookEventTrigger(notebook_id=ENERGY_REPORT))
        session.add_all([asset, trigger])
        session.flush()
        session.add(AssetActive.for_asset(asset))
        asset.add_trigger(trigger, "reports")
        session.flush()
        fired = TriggerEvent({"status": "completed"})  # type: ignore[no-untyped-call]  # Airflow's
        Trigger.submit_event(trigger.id, fired, session=session)

    (event,) = [it for it in events() if it.asset == watched.uri]
    assert (event.task_id, event.partition_key) == (None, None)
    assert event.extra["payload"] == {"status": "completed"}
