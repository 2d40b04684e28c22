# SPDX-License-Identifier: Apache-2.0
"""The link to Losant while XComs are stored in object storage."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_losant._compat import AIRFLOW_3
from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.links.notebook import LosantNotebookLink, XComLink
from airflow_provider_losant.links.report import LosantReportLink, report_links_enabled
from tests.provider import linked_run
from tests.provider.conftest import IN_AIRFLOW_DATABASE, dag_bundle, set_connection
from tests.provider.tasks import Ti, context_of
from tests.support.factories import BRIEF
from tests.support.paths import ROOT
from tests.support.processes import wait_for

pytestmark = [*IN_AIRFLOW_DATABASE]

BACKEND = "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend"
TASKS = ("waiting", "deferred", "started")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """
    What Airflow shows of the DAG run.

    :param url: The URL that each link should have.
    :param early: What the database had for the link of a task whose execution was active.
    :param references: What the route to the report of a task reads.
    :param objects: The objects in which XComs are stored.
    """

    url: str
    early: Any
    states: dict[str, str]
    links: dict[str, str]
    references: dict[str, dict[str, str]]
    objects: list[str]


@pytest.fixture(scope="module")
def finished(airflow_db: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("xcoms")
    with Emulator() as losant, dag_bundle(ROOT / "tests" / "provider" / "dags") as patch:
        set_connection(patch, losant)
        patch.setenv("AIRFLOW__CORE__XCOM_BACKEND", BACKEND)
        patch.setenv("AIRFLOW__LOSANT__REPORT_LINKS", "True")
        patch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH", folder.as_uri())
        patch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD", "0")
        yield run(losant, folder)


def run(losant: Emulator, folder: Path) -> Finished:
    notebook = losant.add_notebook("Report")
    losant.script(notebook, BRIEF)
    ended = LosantHook().execute_notebook(notebook)
    wait_for(lambda: losant.executions(notebook)[0]["status"] == "completed", what="the end", timeout=30)
    losant.script(notebook, Script(ending="hang"))
    before = stored_links()
    conf = json.dumps({"notebook": notebook, "execution": ended})
    command = [sys.executable, "-m", linked_run.__name__, conf]
    log = folder.parent / f"{folder.name}.log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, cwd=ROOT, env=dict(os.environ), stdout=output, stderr=subprocess.STDOUT
        ) as process,
    ):
        try:
            wait_for(
                lambda: stored_links() - before or process.poll() is not None,
                what="the link of the first task",
                timeout=180,
                every=0.1,
            )
            assert process.poll() is None, log.read_text()
            (early,) = stored_links() - before
            losant.script(notebook, BRIEF)
            LosantHook().cancel_execution(notebook, losant.executions(notebook)[0]["id"])
            process.wait(90)
        finally:
            process.kill()
    assert process.returncode == 0, log.read_text()
    shown = json.loads([it for it in log.read_text().splitlines() if it.startswith('{"states"')][-1])
    return Finished(
        url=f"https://app.losant.com/applications/{losant.application_id}/notebooks/{notebook}",
        early=early,
        objects=[it.read_text() for it in folder.rglob("*") if it.is_file()],
        **shown,
    )


def stored_links() -> set[Any]:
    """Return what Airflow's database has for links; Airflow 3.4 has another table for XComs."""
    with sqlite3.connect(Path(os.environ["AIRFLOW_HOME"]) / "airflow.db") as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'xcom%'")
        rows = [
            row
            for (table,) in tables.fetchall()
            for row in database.execute(f"SELECT value FROM {table} WHERE key = 'losant_notebook_link'")
        ]
    return {json.loads(value) for (value,) in rows}


def test_the_link_works_while_the_task_waits(finished: Finished) -> None:
    if AIRFLOW_3:  # in Airflow 2, the web server asks the backend for what is stored
        assert finished.early == finished.url


@pytest.mark.parametrize("task_id", TASKS)
def test_the_link_of_an_ended_task_works(finished: Finished, task_id: str) -> None:
    assert finished.links[task_id] == finished.url


def test_the_route_to_a_report_reads_what_the_task_has_pushed(finished: Finished) -> None:
    if report_links_enabled():
        assert set(finished.references) == {"deferred", "started"}
        assert {it["losant_conn_id"] for it in finished.references.values()} == {"losant_default"}


def test_other_xcoms_are_stored_by_the_backend(finished: Finished) -> None:
    assert finished.states == {"waiting": "failed", "deferred": "success", "started": "success"}
    assert any("execution_id" in it for it in finished.objects)


# -- in this process --------------------------------------------------------------------------------------


@dataclass
class Database:
    """Replaces the supervisor of a task: keeps XComs as Airflow's database does."""

    xcoms: dict[str, Any] = field(default_factory=dict)

    def send(self, msg: Any) -> Any:
        from airflow.sdk.execution_time import comms

        if isinstance(msg, comms.SetXCom):
            self.xcoms[msg.key] = msg.value
            return None
        return comms.XComResult(key=msg.key, value=self.xcoms.get(msg.key))

    async def asend(self, msg: Any) -> Any:
        return self.send(msg)


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    from airflow.sdk.execution_time import task_runner

    made = Database()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", made, raising=False)
    return made


@pytest.fixture
def xcom_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the class of Airflow's XComs be one that stores them elsewhere."""
    from airflow.sdk.bases.xcom import BaseXCom

    class Elsewhere(BaseXCom):
        @staticmethod
        def serialize_value(*_: Any, **__: Any) -> str:
            return "s3://bucket/xcom"

        @staticmethod
        def deserialize_value(*_: Any) -> Any:
            raise LookupError("only tasks can reach the storage")

    for module in ("_compat", "links.notebook"):
        monkeypatch.setattr(f"airflow_provider_losant.{module}.XCom", Elsewhere)


@pytest.mark.airflow(since="3.0")
@pytest.mark.usefixtures("xcom_backend")
@pytest.mark.parametrize("is_async", [False, True], ids=["worker", "triggerer"])
def test_the_database_has_the_url_of_a_link_and_not_where_the_backend_stores_it(
    database: Database, *, is_async: bool
) -> None:
    link, ti = LosantNotebookLink(), Ti()

    if is_async:
        asyncio.run(link.apush(context_of(ti), "https://app.losant.com/x"))
    else:
        link.push(context_of(ti), "https://app.losant.com/x")

    assert database.xcoms == {"losant_notebook_link": "https://app.losant.com/x"}
    assert ti.pushed == {}
    assert get_link(link, ti) == "https://app.losant.com/x"


@pytest.mark.airflow(since="3.0")
@pytest.mark.usefixtures("xcom_backend", "database")
def test_the_link_of_a_task_that_has_not_begun_is_empty() -> None:
    assert get_link(LosantNotebookLink(), Ti()) == ""


@pytest.mark.airflow(since="3.0")
@pytest.mark.parametrize("path", ["losant/report/energy/manual/report/-1/1", ""])
def test_the_path_to_a_report_is_relative_on_airflow_3(database: Database, path: str) -> None:
    database.xcoms["losant_report_link"] = path or None

    assert get_link(LosantReportLink(), Ti()) == path


def get_link(link: XComLink, ti: Any) -> str:
    return link.get_link(None, ti_key=ti)  # type: ignore[arg-type]  # the operator is not used
