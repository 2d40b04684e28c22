# SPDX-License-Identifier: Apache-2.0
"""The lineage of a notebook execution, in the events of the task and of the execution."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_losant._compat import Asset
from airflow_provider_losant.assets.notebook import convert_asset_to_openlineage, create_asset
from airflow_provider_losant.emulator import Fault, Script
from airflow_provider_losant.exceptions import (
    LosantConfigError,
    NotebookExecutionError,
    NotebookExecutionFailed,
    NotebookWaitTimedOut,
)
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.openlineage.collect import is_enabled
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from airflow_provider_losant.transfers.notebook_outputs import (
    LosantNotebookOutputsToObjectStorageOperator,
)
from tests.provider.conftest import set_connection
from tests.provider.tasks import BOTH_MODES, Task, Ti, outlet_events
from tests.support.openlineage_events import Json, read_events

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator
    from tests.provider.conftest import TaskLog

pytestmark = pytest.mark.usefixtures("losant_connection")

BROKEN = Script(
    notebook=0.01,
    ending="errored",
    errors=(("ValueError", "no readings"),),
    files={"result.error.log": b"Traceback: no readings"},
)
WHEN = datetime(2026, 1, 2, tzinfo=UTC)
FOLDERS = pytest.mark.parametrize("folder", ["landing", "run #7", "a?b=100%25 c", r"C:\reports"])


@dataclass
class LineageTi(Ti):
    """A task instance with what OpenLineage needs for a run."""

    dag_run: Any = field(
        default_factory=lambda: SimpleNamespace(
            run_id="manual__2026-01-01", logical_date=WHEN, run_after=WHEN, conf={}, clear_number=0
        )
    )
    logical_date: datetime = WHEN
    execution_date: datetime = WHEN

    def get_template_context(self) -> Json:
        return {"dag_run": self.dag_run}


@dataclass(frozen=True)
class Listener:
    """Does what OpenLineage's listener does for a task; its events are written to a file."""

    file: Path

    @property
    def events(self) -> list[Json]:
        """The events of the executions."""
        return read_events(self.file)

    def ask(self, operator: Any, ti: Ti, *, failed: bool = False) -> Any:
        """Return the lineage of an ended task from OpenLineage's extractor manager, as the listener does."""
        from airflow.providers.openlineage.extractors import ExtractorManager
        from airflow.utils.state import TaskInstanceState

        state = TaskInstanceState.FAILED if failed else TaskInstanceState.SUCCESS
        manager = ExtractorManager()  # type: ignore[no-untyped-call]  # Airflow's
        return manager.extract_metadata(LineageTi().dag_run, operator, state, task_instance=ti)

    def run_task(self, make: Callable[[], Any], *, failing: type[Exception] | None = None) -> Any:
        """Run a task with all its deferrals, and return the lineage of the last operator."""
        made: list[Any] = []

        def make_one() -> Any:
            made.append(make())
            return made[-1]

        task = Task(
            make_one,
            ti=LineageTi(),
            more={"outlet_events": outlet_events()},
        )
        if failing is None:
            task.run()
        else:
            with pytest.raises(failing):
                task.run()
        return self.ask(made[-1], task.ti, failed=failing is not None)


@pytest.fixture
def openlineage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    """Configure OpenLineage to write to a file; clear its cached settings."""
    from airflow.providers.openlineage.plugins.listener import get_openlineage_listener

    file = tmp_path / "events.jsonl"
    transport = {"type": "file", "log_file_path": str(file), "append": True}
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(transport))
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__NAMESPACE", "plant")
    get_openlineage_listener.cache_clear()
    yield Listener(file)
    get_openlineage_listener.cache_clear()


def named(datasets: list[Any], notebook: str = "") -> list[str]:
    """Return the names of datasets, without the prefix of the notebook's files."""
    return [it.name.rpartition(f"{notebook}/")[2] if notebook else it.name for it in datasets]


def operator(notebook: str, **options: Any) -> Callable[[], LosantNotebookExecuteOperator]:
    return lambda: LosantNotebookExecuteOperator(
        task_id="report", notebook_id=notebook, poll_interval=0.02, **options
    )


# -- the task ---------------------------------------------------------------------------------------------


@BOTH_MODES
def test_a_task_reports_its_execution_and_the_outputs_of_it(
    losant: Emulator, notebook: str, openlineage: Listener, deferrable: bool
) -> None:
    lineage = openlineage.run_task(operator(notebook, deferrable=deferrable, relative_to=WHEN))

    (execution,) = losant.executions(notebook)
    host = losant.url.removeprefix("http://")
    assert {it.namespace for it in lineage.outputs} == {f"losant://{host}"}
    assert sorted(named(lineage.outputs, notebook)) == ["outputs/out.csv", "outputs/result.html"]
    assert {it.outputFacets["outputStatistics"].size for it in lineage.outputs} == {9, 18}
    assert lineage.run_facets["externalQuery"].externalQueryId == execution["id"]
    facet = lineage.run_facets["losant_execution"]
    assert (facet.status, facet.relativeTo) == ("completed", "2026-01-02T00:00:00.000Z")
    assert facet.durations["notebook"] == 0.03
    assert facet.url.endswith(f"/notebooks/{notebook}")


def test_a_dataset_has_the_name_of_its_asset_whatever_way_the_connection_spells_the_host(
    losant: Emulator, notebook: str, openlineage: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = urlsplit(losant.url).port
    set_connection(monkeypatch, losant, host="http://LOCALHOST.", port=port)

    lineage = openlineage.run_task(operator(notebook))

    asset = create_asset(
        notebook_id=notebook,
        application_id=losant.application_id,
        host=f"localhost:{port}",
        output="out.csv",
    )
    dataset = convert_asset_to_openlineage(asset, None)
    assert (dataset.namespace, dataset.name) in {(it.namespace, it.name) for it in lineage.outputs}
    assert {it["job"]["namespace"] for it in openlineage.events} == {dataset.namespace}


@BOTH_MODES
def test_no_lineage_contains_the_values_of_a_notebook(
    losant: Emulator, notebook: str, openlineage: Listener, deferrable: bool
) -> None:
    losant.script(notebook, Script(notebook=0.01, files={"values.json": b'["SECRET-1"]'}))

    lineage = openlineage.run_task(operator(notebook, deferrable=deferrable, values_from="values.json"))

    assert named(lineage.outputs, notebook) == ["outputs/values.json"]
    assert "SECRET" not in repr(lineage) + openlineage.file.read_text()


def test_a_dataset_has_the_name_of_its_asset(losant: Emulator, notebook: str, openlineage: Listener) -> None:
    lineage = openlineage.run_task(operator(notebook))

    asset = create_asset(
        notebook_id=notebook, application_id=losant.application_id, host=losant.url, output="out.csv"
    )
    assert asset.uri in {f"{it.namespace}/{it.name}" for it in lineage.outputs}


@BOTH_MODES
def test_a_failed_task_reports_its_failed_execution(
    losant: Emulator, notebook: str, openlineage: Listener, deferrable: bool
) -> None:
    losant.script(notebook, BROKEN)

    lineage = openlineage.run_task(operator(notebook, deferrable=deferrable), failing=NotebookExecutionFailed)

    assert named(lineage.outputs, notebook) == ["outputs/result.error.log"]
    assert lineage.run_facets["losant_execution"].status == "errored"


def test_a_task_without_an_execution_reports_no_lineage_and_still_fails(
    openlineage: Listener,
) -> None:
    lineage = openlineage.run_task(operator("0" * 24), failing=LosantConfigError)

    assert (lineage.inputs, lineage.outputs, lineage.run_facets, openlineage.events) == ([], [], {}, [])


@FOLDERS
def test_saved_files_are_reported_with_their_destination(
    losant: Emulator, notebook: str, openlineage: Listener, tmp_path: Path, folder: str
) -> None:
    lineage = openlineage.run_task(operator(notebook, save_outputs_to=str(tmp_path / folder)))

    copies = {
        it.name: it.outputFacets["outputStatistics"].size for it in lineage.outputs if it.namespace == "file"
    }
    assert copies == {f"{tmp_path}/{folder}/out.csv": 18, f"{tmp_path}/{folder}/result.html": 9}
    assert all(Path(name).is_file() for name in copies)
    assert not any(folder in it["name"] for it in openlineage.events[-1]["outputs"])


def test_declared_inlets_and_outlets_are_reported_too(notebook: str, openlineage: Listener) -> None:
    rates, archive = Asset(uri="file:///srv/rates.csv"), Asset(uri="file:///srv/archive.csv")

    lineage = openlineage.run_task(
        operator(notebook, inlets=[rates], outlets=[archive], wait_for_completion=False)
    )

    assert "/srv/rates.csv" in named(lineage.inputs)
    assert "/srv/archive.csv" in named(lineage.outputs)


@FOLDERS
def test_a_transfer_reports_which_output_became_which_file(
    losant: Emulator, notebook: str, openlineage: Listener, tmp_path: Path, folder: str
) -> None:
    execution = LosantHook().execute_notebook(notebook)
    Task(lambda: LosantNotebookExecutionSensor(
        task_id="await", notebook_id=notebook, execution_id=execution, poke_interval=0.02
    )).run()  # fmt: skip

    lineage = openlineage.run_task(
        lambda: LosantNotebookOutputsToObjectStorageOperator(
            task_id="land",
            notebook_id=notebook,
            execution_id=execution,
            destination=str(tmp_path / folder),
            outputs="*.csv",
        )
    )

    assert named(lineage.inputs, notebook) == ["outputs/out.csv"]
    assert named(lineage.outputs) == [f"{tmp_path}/{folder}/out.csv"]
    assert Path(lineage.outputs[0].name).is_file()


def test_a_transfer_that_copies_nothing_reports_no_lineage(
    notebook: str, openlineage: Listener, tmp_path: Path
) -> None:
    lineage = openlineage.run_task(
        lambda: LosantNotebookOutputsToObjectStorageOperator(
            task_id="land", notebook_id=notebook, execution_id="0" * 24, destination=str(tmp_path)
        ),
        failing=LosantConfigError,
    )

    assert (lineage.inputs, lineage.outputs) == ([], [])


# -- the run of the execution -----------------------------------------------------------------------------


@BOTH_MODES
def test_the_execution_is_a_child_run_of_the_task_with_start_and_end_events(
    losant: Emulator, notebook: str, openlineage: Listener, deferrable: bool
) -> None:
    from airflow.providers.openlineage.plugins import macros

    lineage = openlineage.run_task(operator(notebook, deferrable=deferrable, relative_to=WHEN))

    began, ended = openlineage.events
    assert [it["eventType"] for it in (began, ended)] == ["START", "COMPLETE"]
    assert began["run"]["runId"] == ended["run"]["runId"]
    assert ended["job"]["name"] == f"{losant.application_id}/notebooks/{notebook}"
    assert ended["job"]["facets"]["jobType"]["integration"] == "LOSANT"
    assert ended["job"]["facets"]["documentation"]["description"] == "Report"
    assert [it["name"] for it in ended["outputs"]] == named(lineage.outputs)
    assert ended["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2026-01-02T00:00:00.000Z"
    parent = ended["run"]["facets"]["parent"]
    assert (parent["job"]["namespace"], parent["job"]["name"]) == ("plant", "energy.report")
    assert parent["run"]["runId"] == macros.lineage_run_id(LineageTi())
    assert parent["root"]["job"]["name"] == "energy"


@BOTH_MODES
def test_a_failed_execution_reports_the_notebooks_own_error(
    losant: Emulator, notebook: str, openlineage: Listener, deferrable: bool
) -> None:
    losant.script(notebook, BROKEN)

    openlineage.run_task(operator(notebook, deferrable=deferrable), failing=NotebookExecutionFailed)

    ended = openlineage.events[-1]
    error = ended["run"]["facets"]["errorMessage"]
    assert ended["eventType"] == "FAIL"
    assert (error["message"], error["stackTrace"]) == ("ValueError: no readings", "Traceback: no readings")


def test_a_canceled_execution_is_reported_as_aborted(
    losant: Emulator, notebook: str, openlineage: Listener
) -> None:
    losant.script(notebook, Script(notebook=0.01, ending="canceled"))

    openlineage.run_task(operator(notebook), failing=NotebookExecutionError)

    assert openlineage.events[-1]["eventType"] == "ABORT"


def test_an_active_execution_has_a_start_event_only(
    losant: Emulator, notebook: str, openlineage: Listener
) -> None:
    losant.script(notebook, Script(ending="hang"))

    lineage = openlineage.run_task(
        operator(notebook, timeout=0.1, cancel_on_timeout=False), failing=NotebookWaitTimedOut
    )

    assert lineage.run_facets["losant_execution"].status == "inProgress"
    assert [it["eventType"] for it in openlineage.events] == ["START"]


def test_an_execution_of_which_losant_reports_no_timestamps_began_when_its_id_was_made(
    losant: Emulator, notebook: str, openlineage: Listener
) -> None:
    losant.inject("notebook.logs", Fault("missing_fields"), times=99)

    openlineage.run_task(operator(notebook))

    (execution,) = losant.executions(notebook)
    created_at = datetime.fromtimestamp(int(execution["id"][:8], 16), UTC)
    assert [it["eventType"] for it in openlineage.events] == ["START", "COMPLETE"]
    assert datetime.fromisoformat(openlineage.events[0]["eventTime"]) == created_at


def test_without_waiting_the_sensor_reports_the_end_of_the_execution(
    losant: Emulator, notebook: str, openlineage: Listener
) -> None:
    openlineage.run_task(operator(notebook, wait_for_completion=False))
    (fired,) = openlineage.events
    (execution,) = losant.executions(notebook)

    openlineage.run_task(
        lambda: LosantNotebookExecutionSensor(
            task_id="await", notebook_id=notebook, execution_id=execution["id"], poke_interval=0.02
        )
    )

    _, *seen = openlineage.events
    assert fired["eventType"] == "START"
    assert [it["eventType"] for it in seen] == ["START", "COMPLETE"]
    assert {it["run"]["runId"] for it in seen} == {fired["run"]["runId"]}
    assert "parent" in fired["run"]["facets"]
    assert not any("parent" in it["run"]["facets"] for it in seen), "who only watches is no parent"


def test_an_adopted_execution_is_not_reported_as_a_child(
    losant: Emulator, notebook: str, openlineage: Listener
) -> None:
    losant.script(notebook, Script(notebook=0.3))
    LosantHook().execute_notebook(notebook)

    openlineage.run_task(operator(notebook, if_running="adopt"))

    assert len(losant.executions(notebook)) == 1
    assert not any("parent" in it["run"]["facets"] for it in openlineage.events)


def test_no_lineage_event_has_a_token_or_a_signed_url(
    losant: Emulator, notebook: str, openlineage: Listener
) -> None:
    lineage = openlineage.run_task(operator(notebook))

    for text in (openlineage.file.read_text(), str(lineage)):
        assert losant.token not in text
        assert losant.files_url not in text


# -- sources of the data ----------------------------------------------------------------------------------


def test_the_sources_of_inputs_are_requested_once(
    losant: Emulator, notebook: str, openlineage: Listener
) -> None:
    openlineage.run_task(operator(notebook))

    assert [it.operation for it in losant.requests].count("notebook.get") == 1


def test_failed_lineage_requests_do_not_fail_the_task(
    losant: Emulator, notebook: str, openlineage: Listener
) -> None:
    losant.inject("notebook.get", Fault("server_error"), times=9)

    lineage = openlineage.run_task(operator(notebook))

    assert len(lineage.outputs) == 2
    assert "documentation" not in openlineage.events[-1]["job"]["facets"]


def test_an_invalid_transport_does_not_fail_the_task(
    losant: Emulator, notebook: str, openlineage: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", "[]")
    with pytest.raises(ValueError, match="not a dict"):
        is_enabled()

    assert Task(operator(notebook), ti=LineageTi()).run()["status"] == "completed"


def test_events_that_cannot_be_sent_do_not_remove_the_lineage_of_the_task(
    notebook: str, openlineage: Listener, monkeypatch: pytest.MonkeyPatch, task_log: TaskLog
) -> None:
    one = operator(notebook)()
    Task(lambda: one, ti=LineageTi()).run()
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", "[]")

    lineage = one.get_openlineage_facets_on_complete(LineageTi())

    assert set(named(lineage.outputs, notebook)) == {"outputs/out.csv", "outputs/result.html"}
    assert "Could not emit OpenLineage events of the notebook's run" in task_log()


@pytest.mark.kernel
def test_a_notebook_is_connected_to_the_tables_it_reads_and_fills(
    losant: Emulator, openlineage: Listener, tmp_path: Path
) -> None:
    read, filled = "5c782b8d4f3a8e51c1db42e5", "5c782b8d4f3a8e51c1db42e6"
    (tmp_path / "sums.ipynb").write_text(json.dumps(copying("in.csv", "out.csv")))
    (tmp_path / "in.csv").write_text("site,kwh\nnorth,42\n")
    notebook = losant.add_notebook(
        "Sums",
        file=tmp_path / "sums.ipynb",
        inputs=[{"inputType": "dataTable", "fileName": "in.csv", "dataTableId": read}],
        outputs=[{"outputType": "dataTable", "fileName": "out.csv", "dataTableId": filled}],
        samples={"in.csv": tmp_path / "in.csv"},
    )

    lineage = openlineage.run_task(operator(notebook))

    (source,) = lineage.inputs
    assert source.name == f"{losant.application_id}/data-tables/{read}"
    assert source.inputFacets["inputStatistics"].size == 18
    assert f"{losant.application_id}/data-tables/{filled}" in named(lineage.outputs)


def copying(source: str, target: str) -> Json:
    paths = f"os.environ['INPUT_DIR'] + '/{source}', os.environ['OUTPUT_DIR'] + '/{target}'"
    code = f"import os, shutil\nshutil.copy({paths})"
    cell: Json = {
        "cell_type": "code",
        "id": "copy",
        "metadata": {},
        "execution_count": None,
        "outputs": [],
        "source": code,
    }
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}


# -- the notebook's context -------------------------------------------------------------------------------


def submitted_context(losant: Emulator) -> Json:
    (order,) = [it.body for it in losant.requests if it.operation == "notebook.execute"]
    lineage: Json = json.loads(order["templateContext"])
    return lineage


def test_a_notebook_gets_its_parent_run_in_openlineages_own_variables(
    losant: Emulator, notebook: str, openlineage: Listener
) -> None:
    from airflow.providers.openlineage.plugins import macros

    openlineage.run_task(operator(notebook))

    ti = LineageTi()
    assert submitted_context(losant)["airflow"]["openlineage"] == {
        "OPENLINEAGE_PARENT_ID": f"plant/energy.report/{macros.lineage_run_id(ti)}",
        "OPENLINEAGE_ROOT_PARENT_ID": macros.lineage_root_parent_id(ti),
    }


def test_a_retry_reconnects_whatever_the_parent_run_in_the_context(
    losant: Emulator, notebook: str, openlineage: Listener
) -> None:
    start = datetime.now(UTC)
    Task(operator(notebook), ti=LineageTi(start_date=start)).run()

    Task(operator(notebook), ti=LineageTi(start_date=start, try_number=2)).run()

    assert len(losant.executions(notebook)) == 1


def test_a_context_without_room_for_a_parent_run_still_has_its_marker(
    losant: Emulator, notebook: str, openlineage: Listener
) -> None:
    openlineage.run_task(operator(notebook, template_context={"text": "x" * 32_500}))

    mark = submitted_context(losant)["airflow"]
    assert "openlineage" not in mark
    assert mark["run_id"]


# -- without OpenLineage ----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_installed", [True, False], ids=["not configured", "not installed"])
def test_without_openlineage_nothing_is_requested_reported_or_imported(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, *, is_installed: bool
) -> None:
    if not is_installed:
        monkeypatch.setitem(sys.modules, "airflow.providers.openlineage", None)  # as if it could not be found
    before = set(sys.modules)

    Task(operator(notebook), ti=LineageTi()).run()

    assert not is_enabled()
    assert "openlineage" not in submitted_context(losant)["airflow"]
    assert "notebook.get" not in {it.operation for it in losant.requests}
    assert not [it for it in set(sys.modules) - before if it.startswith("openlineage")]
