# SPDX-License-Identifier: Apache-2.0
"""What remains of an execution that did not complete: its outputs, its printed output, and the exception."""

from __future__ import annotations

import copy
import json
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_losant._compat import AirflowSensorTimeout, AirflowTaskTimeout
from airflow_provider_losant.api.defaults import RETRY_ON
from airflow_provider_losant.api.model import STATUSES
from airflow_provider_losant.emulator import Emulator, Fault, Script
from airflow_provider_losant.exceptions import (
    LosantConfigError,
    NotebookExecutionCanceled,
    NotebookExecutionError,
    NotebookExecutionFailed,
    NotebookExecutionTimedOut,
    NotebookNotStarted,
    NotebookOutputError,
    NotebookWaitTimedOut,
    not_retried,
)
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.sensors.notebook import LosantNotebookExecutionSensor
from tests.provider.conftest import set_connection
from tests.provider.tasks import BOTH_MODES, Task, Ti, context_of
from tests.provider.test_outputs import ReadOnlyFileSystem, store_module

if TYPE_CHECKING:
    from tests.provider.conftest import TaskLog

pytestmark = pytest.mark.usefixtures("losant_connection")

PRINTED = "north used 42 kWh\nsouth used 43 kWh\n"
FILES = {
    "result.ipynb": b'{"cells": []}',
    "result.log": PRINTED.encode(),
    "result.error.log": b"Traceback: no readings",
}
BROKEN = Script(notebook=0.01, ending="errored", errors=(("ValueError", "no readings"),), files=FILES)
FAILURES = {
    "errored": NotebookExecutionFailed,
    "timeout": NotebookExecutionTimedOut,
    "canceled": NotebookExecutionCanceled,
}


def task(notebook: str, **options: Any) -> Task:
    given = {"task_id": "report", "notebook_id": notebook, "poll_interval": 0.02, **options}
    return Task(lambda: LosantNotebookExecuteOperator(**given))


def awaiting(notebook: str, execution: str, **options: Any) -> Task:
    given = {"task_id": "await", "notebook_id": notebook, "execution_id": execution, "poke_interval": 0.02}
    return Task(lambda: LosantNotebookExecutionSensor(**{**given, **options}))


@pytest.fixture
def broken(losant: Emulator, notebook: str) -> str:
    """Return the id of a notebook that fails, and leaves files."""
    losant.script(notebook, BROKEN)
    return notebook


@pytest.fixture
def no_storage() -> Iterator[str]:
    """Return a folder in a storage that refuses every write."""
    store_module().attach(protocol="memory", conn_id="readonly", fs=ReadOnlyFileSystem())
    yield "memory://readonly@bucket/reports"
    ReadOnlyFileSystem.store.clear()


def files_in(folder: Path) -> dict[str, bytes]:
    return {it.name: it.read_bytes() for it in folder.iterdir()}


def lines_with(text: str, log: str) -> list[str]:
    return [line for line in log.splitlines() if text in line]


# -- outputs of a failed execution ------------------------------------------------------------------------


@BOTH_MODES
@pytest.mark.parametrize("status", ["errored", "canceled"])
def test_the_outputs_of_an_execution_that_did_not_complete_are_saved_apart(
    losant: Emulator, notebook: str, tmp_path: Path, status: str, *, deferrable: bool
) -> None:
    losant.script(notebook, Script(notebook=0.01, ending=status, files=FILES))

    with pytest.raises(FAILURES[status], match=f"ended with status {status}") as failed:
        task(notebook, deferrable=deferrable, save_outputs_to=str(tmp_path), save_outputs_when="always").run()

    assert files_in(tmp_path / "failed" / str(failed.value.execution_id)) == FILES
    assert [it.name for it in tmp_path.iterdir()] == ["failed"]


def test_the_outputs_of_a_completed_execution_are_saved_where_they_always_are(
    losant: Emulator, notebook: str, tmp_path: Path
) -> None:
    losant.script(notebook, Script(notebook=0.01, files=FILES))

    result = task(notebook, save_outputs_to=str(tmp_path), save_outputs_when="always").run()

    assert files_in(tmp_path) == FILES
    assert set(result["saved_outputs"]) == set(FILES)


@BOTH_MODES
def test_with_a_storage_that_is_down_the_error_of_the_notebook_stands(
    losant: Emulator, broken: str, no_storage: str, task_log: TaskLog, *, deferrable: bool
) -> None:
    with pytest.raises(NotebookExecutionFailed, match="no readings") as failed:
        task(broken, deferrable=deferrable, save_outputs_to=no_storage, save_outputs_when="always").run()

    assert not isinstance(failed.value, AirflowFailException)
    (warning,) = lines_with("could not be saved", log := task_log())
    assert "Access Denied" in warning
    assert "signature" not in log


@BOTH_MODES
def test_with_file_host_and_storage_down_the_error_of_the_notebook_stands(
    losant: Emulator, broken: str, no_storage: str, task_log: TaskLog, *, deferrable: bool
) -> None:
    losant.inject("files.get", Fault("server_error"), times=100)

    with pytest.raises(NotebookExecutionFailed, match="no readings"):
        task(
            broken,
            deferrable=deferrable,
            save_outputs_to=no_storage,
            save_outputs_when="always",
            log_output=True,
        ).run()

    log = task_log()
    assert len(lines_with("could not be saved", log)) == 1
    assert len(lines_with("The printed output could not be read", log)) == 1
    assert "signature" not in log


def test_an_interrupted_download_leaves_no_partial_file_and_the_error_of_the_notebook_stands(
    losant: Emulator, broken: str, tmp_path: Path, task_log: TaskLog
) -> None:
    losant.inject("files.get", Fault("truncated"), times=100)

    with pytest.raises(NotebookExecutionFailed, match="no readings"):
        task(broken, save_outputs_to=str(tmp_path), save_outputs_when="always").run()

    assert [it for it in tmp_path.rglob("*") if it.is_file()] == []
    assert len(lines_with("could not be saved", task_log())) == 1


def test_with_losant_down_after_the_end_the_error_of_the_notebook_stands(
    losant: Emulator, broken: str, tmp_path: Path, task_log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = LosantHook().execute_notebook(broken)
    while losant.executions(broken)[0]["status"] != "errored":
        time.sleep(0.01)
    set_connection(monkeypatch, losant, extra={"max_retries": 0})

    def make() -> Any:
        return LosantNotebookExecuteOperator(
            task_id="report",
            notebook_id=broken,
            save_outputs_to=str(tmp_path),
            save_outputs_when="always",
            log_output=True,
        )

    event = {
        "ending": "ended",
        "result": LosantHook().get_execution(broken, ended).to_result(),
        "errors": [{"name": "ValueError", "message": "no readings"}],
    }
    ti = Ti(pushed={"execution_id": ended})
    losant.inject("notebook.logs", Fault("server_error"), times=100)

    with pytest.raises(NotebookExecutionFailed, match="no readings"):
        make().execute_complete(context_of(ti), event)

    assert len(lines_with("could not be", task_log())) == 2


def test_a_failed_execution_without_outputs_names_what_to_configure(
    losant: Emulator, notebook: str, tmp_path: Path, task_log: TaskLog
) -> None:
    losant.script(notebook, Script(notebook=0.01, ending="errored"))

    with pytest.raises(NotebookExecutionFailed):
        task(notebook, save_outputs_to=str(tmp_path), save_outputs_when="always", log_output=True).run()

    log = task_log()
    for name in ("result.ipynb", "result.log"):
        assert json.dumps({"outputType": "executionResult", "fileName": name}) in log
    assert list(tmp_path.iterdir()) == []


class StoppingFileSystem(MemoryFileSystem):
    """A storage during whose first write something happens."""

    store: dict[str, Any] = {}  # noqa: RUF012 - as fsspec has it
    cachable = False
    on_write: ClassVar[list[Callable[[], None]]] = []

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        while mode == "wb" and self.on_write:
            self.on_write.pop()()
        return super()._open(path, mode, **options)


@pytest.fixture
def stopping() -> Iterator[list[Callable[[], None]]]:
    """Return a list of what happens during the next write to the storage ``stopping``."""
    store_module().attach(protocol="memory", conn_id="stopping", fs=StoppingFileSystem())
    yield StoppingFileSystem.on_write
    StoppingFileSystem.on_write.clear()
    StoppingFileSystem.store.clear()


@BOTH_MODES
def test_a_kill_while_the_outputs_of_a_failed_execution_are_saved_ends_the_task(
    losant: Emulator, broken: str, stopping: list[Callable[[], None]], *, deferrable: bool
) -> None:
    operators: list[LosantNotebookExecuteOperator] = []

    def make() -> Any:
        operators.append(
            LosantNotebookExecuteOperator(
                task_id="report",
                notebook_id=broken,
                poll_interval=0.02,
                deferrable=deferrable,
                save_outputs_to="memory://stopping@bucket/reports",
                save_outputs_when="always",
            )
        )
        return operators[-1]

    def kill() -> None:
        operators[-1].on_kill()

    stopping.append(kill)

    with pytest.raises(AirflowException, match="The task was killed"):
        Task(make).run()

    assert StoppingFileSystem.store == {}


def test_execution_timeout_while_the_outputs_of_a_failed_execution_are_saved_ends_the_task(
    losant: Emulator, broken: str, stopping: list[Callable[[], None]]
) -> None:
    def time_out() -> None:
        raise AirflowTaskTimeout

    stopping.append(time_out)

    with pytest.raises(AirflowTaskTimeout):
        task(broken, save_outputs_to="memory://stopping@bucket/reports", save_outputs_when="always").run()


# -- the printed output -----------------------------------------------------------------------------------


def groups(log: str) -> list[str]:
    """Return the text between Airflow's markers."""
    return [it.partition("::endgroup::")[0] for it in log.split("::group::")[1:]]


def runs(kind: str, notebook: str, **options: Any) -> Task:
    if kind.startswith("sensor"):
        execution = LosantHook().execute_notebook(notebook)
        return awaiting(notebook, execution, deferrable=kind == "sensor deferred", **options)
    return task(notebook, deferrable=kind == "deferred", **options)


KINDS = pytest.mark.parametrize("kind", ["waiting", "deferred", "sensor", "sensor deferred"])


@KINDS
@pytest.mark.parametrize("ending", ["completed", "errored"])
def test_the_printed_output_is_one_group_in_the_task_log(
    losant: Emulator, notebook: str, task_log: TaskLog, kind: str, ending: str
) -> None:
    losant.script(notebook, Script(notebook=0.01, ending=ending, files=FILES))
    with suppress(NotebookExecutionFailed):
        runs(kind, notebook, log_output=True).run()

    (group,) = groups(log := task_log())
    assert group.startswith("Printed output of execution ")
    assert all(line in group for line in PRINTED.splitlines())
    assert "signature" not in log


def test_without_log_output_nothing_printed_is_logged(
    losant: Emulator, broken: str, task_log: TaskLog
) -> None:
    with pytest.raises(NotebookExecutionFailed):
        task(broken).run()

    assert "kWh" not in task_log()


def test_of_a_long_printed_output_the_log_has_the_end_in_whole_lines(
    losant: Emulator, notebook: str, task_log: TaskLog
) -> None:
    lines = [f"{number:>6} größer" for number in range(10_000)]
    losant.script(notebook, Script(notebook=0.01, files={"result.log": "\n".join(lines).encode()}))

    task(notebook, log_output=True).run()

    (group,) = groups(task_log())
    logged = [line for line in group.splitlines() if line.endswith("größer")]
    assert 3_000 < len(logged) < 5_000
    assert {line[-len(lines[0]) :] for line in logged} <= set(lines)
    assert lines[-1] in group


@pytest.mark.parametrize("printed", [b"", b"\n"])
def test_an_empty_printed_output_is_no_group(
    losant: Emulator, notebook: str, task_log: TaskLog, printed: bytes
) -> None:
    losant.script(notebook, Script(notebook=0.01, files={"result.log": printed}))

    task(notebook, log_output=True).run()

    assert groups(log := task_log()) == []
    assert "The notebook printed nothing" in log
    assert "could not" not in log


def test_markers_of_groups_in_the_printed_output_do_not_end_its_group(
    losant: Emulator, notebook: str, task_log: TaskLog
) -> None:
    printed = b"before\n::endgroup::\n::group::mine\nafter\n"
    losant.script(notebook, Script(notebook=0.01, files={"result.log": printed}))

    task(notebook, log_output=True).run()

    (group,) = groups(task_log())
    assert "before" in group
    assert "after" in group


def test_a_missing_printed_output_does_not_fail_a_completed_execution(
    losant: Emulator, notebook: str, task_log: TaskLog
) -> None:
    assert task(notebook, log_output=True).run()["status"] == "completed"

    (warning,) = lines_with("The printed output could not be read", task_log())
    assert '{"outputType": "executionResult", "fileName": "result.log"}' in warning


# -- arguments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"save_outputs_to": "/tmp/x", "save_outputs_when": "sometimes"},
            "save_outputs_when: 'sometimes' is none of success, always",
        ),
        ({"save_outputs_when": "always"}, "save_outputs_when: 'always' needs save_outputs_to"),
        ({"log_output": True, "wait_for_completion": False}, "log_output: needs wait_for_completion=True"),
        ({"retry_on": "error"}, "retry_on: 'error' is none of errored, timeout, canceled"),
        ({"retry_on": ["errored", "completed"]}, "retry_on: 'completed' is none of"),
    ],
    ids=["unknown", "no folder", "no wait", "one status", "completed"],
)
def test_an_argument_that_cannot_work_is_refused_when_the_dag_is_parsed(
    notebook: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(LosantConfigError, match=says):
        LosantNotebookExecuteOperator(task_id="report", notebook_id=notebook, **options)


def test_a_retry_can_be_limited_to_every_status_of_an_execution_that_did_not_complete() -> None:
    ended = {name for name, it in STATUSES.items() if it.is_final and not it.is_success}

    assert set(RETRY_ON) == ended


# -- endings after which Airflow does not retry -----------------------------------------------------------


@BOTH_MODES
@pytest.mark.parametrize("status", FAILURES)
@pytest.mark.parametrize("retry_on", [(), "errored", ["timeout", "canceled"], RETRY_ON], ids=str)
def test_only_after_the_given_statuses_airflow_retries(
    losant: Emulator, notebook: str, status: str, retry_on: Any, *, deferrable: bool
) -> None:
    losant.script(notebook, Script(notebook=0.01, ending=status))

    with pytest.raises(FAILURES[status]) as failed:
        task(notebook, deferrable=deferrable, retry_on=retry_on).run()

    assert isinstance(failed.value, AirflowFailException) == (status not in retry_on)
    assert type(failed.value).__name__ == FAILURES[status].__name__


def second_try(first: Task, notebook: str, **options: Any) -> Task:
    first.ti.try_number += 1
    first.ti.max_tries = 3
    again = task(notebook, **options)
    again.ti = first.ti
    return again


@BOTH_MODES
@pytest.mark.parametrize("status", ["errored", "timeout"])
def test_a_retry_does_not_repeat_an_execution_that_ended_finally_while_no_task_waited_for_it(
    losant: Emulator, notebook: str, status: str, *, deferrable: bool
) -> None:
    losant.script(notebook, Script(notebook=0.01, ending=status))
    options = {"deferrable": deferrable, "retry_on": ()}
    lost = task(notebook, wait_for_completion=False)
    lost.ti.max_tries = 3
    execution = lost.run()["execution_id"]
    while losant.executions(notebook)[0]["status"] != status:
        time.sleep(0.01)

    with pytest.raises(FAILURES[status]) as failed:
        second_try(lost, notebook, **options).run()

    assert isinstance(failed.value, AirflowFailException)
    assert failed.value.execution_id == execution
    assert len(losant.executions(notebook)) == 1


def test_a_retry_repeats_an_execution_that_was_cancelled_while_no_task_waited_for_it(
    losant: Emulator, notebook: str
) -> None:
    losant.script(notebook, Script(ending="hang"))
    lost = task(notebook, wait_for_completion=False)
    lost.ti.max_tries = 3
    LosantHook().cancel_execution(notebook, lost.run()["execution_id"])
    while losant.executions(notebook)[0]["status"] != "canceled":
        time.sleep(0.01)
    losant.script(notebook, Script(notebook=0.01))

    assert second_try(lost, notebook, retry_on=()).run()["status"] == "completed"


def test_a_cleared_task_runs_the_notebook_again_after_a_final_failure(losant: Emulator, broken: str) -> None:
    first = task(broken, retry_on=())
    with pytest.raises(AirflowFailException):
        first.run()
    losant.script(broken, Script(notebook=0.01))
    first.ti.try_number, first.ti.max_tries = 2, 1

    assert first.run()["status"] == "completed"


# -- what exceptions know ---------------------------------------------------------------------------------


def copies(failure: Exception) -> list[Any]:
    return [failure, pickle.loads(pickle.dumps(failure)), copy.copy(failure), copy.deepcopy(failure)]


@KINDS
@pytest.mark.parametrize("options", [{}, {"retry_on": ()}], ids=["retried", "final"])
def test_a_failure_knows_its_execution_also_after_pickling_and_copying(
    losant: Emulator, broken: str, kind: str, options: dict[str, Any]
) -> None:
    given = {} if kind.startswith("sensor") else options
    with pytest.raises(NotebookExecutionFailed) as failed:
        runs(kind, broken, **given).run()

    for it in copies(failed.value):
        assert type(it) is type(failed.value)
        assert str(it) == str(failed.value)
        assert str(it).startswith("The notebook ended with status errored")
        assert it.execution_id == losant.executions(broken)[0]["id"]
        assert it.notebook_id == broken
        assert it.url is not None
        assert it.url.endswith(f"/notebooks/{broken}")
        assert it.status == "errored"
        assert it.errors == ({"name": "ValueError", "message": "no readings"},)
        assert it.error_log == "Traceback: no readings"
        assert isinstance(it, AirflowFailException) == (kind.startswith("sensor") or bool(options))
        assert "signature" not in repr(vars(it))


def test_the_errors_of_a_failure_are_bounded(losant: Emulator, notebook: str) -> None:
    many = tuple(("ValueError", "x" * 5_000) for _ in range(500))
    log = {"result.error.log": b"y" * 100_000}
    losant.script(notebook, Script(notebook=0.01, ending="errored", errors=many, files=log))

    with pytest.raises(NotebookExecutionFailed) as failed:
        task(notebook).run()

    assert len(failed.value.errors) == 21
    assert failed.value.errors[-1]["message"] == "480 more errors"
    assert all(len(it["message"]) < 2_100 for it in failed.value.errors)
    assert len(failed.value.error_log or "") <= 8_000


def test_a_wait_that_timed_out_knows_its_execution(losant: Emulator, running: str, notebook: str) -> None:
    with pytest.raises(AirflowSensorTimeout) as failed:
        awaiting(notebook, running, deferrable=True, timeout=0.1).run()

    failure = failed.value
    assert isinstance(failure, NotebookWaitTimedOut)
    for it in copies(failure):
        assert (it.execution_id, it.notebook_id, it.status) == (running, notebook, "inProgress")
        assert isinstance(it, AirflowSensorTimeout)


def test_a_denied_start_knows_its_notebook(losant: Emulator, running: str, notebook: str) -> None:
    with pytest.raises(NotebookNotStarted) as failed:
        task(notebook, if_running="fail").run()

    assert (failed.value.execution_id, failed.value.notebook_id) == (None, notebook)
    assert str(failed.value.url).endswith(f"/notebooks/{notebook}")
    assert failed.value.errors == ()


def test_outputs_that_could_not_be_saved_know_their_execution(
    losant: Emulator, notebook: str, no_storage: str
) -> None:
    losant.script(notebook, Script(notebook=0.01, files=FILES))
    with pytest.raises(NotebookOutputError) as failed:
        task(notebook, save_outputs_to=no_storage).run()

    assert failed.value.execution_id == losant.executions(notebook)[0]["id"]
    assert failed.value.status == "completed"
    assert str(failed.value.url).endswith(f"/notebooks/{notebook}")


def test_a_failure_that_is_already_not_retried_stays_as_it_is() -> None:
    failure = not_retried(NotebookExecutionError("it"))

    assert not_retried(failure) is failure
    assert type(not_retried(NotebookExecutionError("other"))) is type(failure)


# -- a real notebook --------------------------------------------------------------------------------------


def notebook_of(*cells: str) -> dict[str, Any]:
    code: dict[str, Any] = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": []}
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {},
        "cells": [{**code, "id": f"cell{number}", "source": cell} for number, cell in enumerate(cells)],
    }


@pytest.fixture
def real(losant: Emulator, tmp_path: Path) -> str:
    """Return the id of a notebook whose second cell fails, and which runs in a kernel."""
    (tmp_path / "sums.ipynb").write_text(
        json.dumps(notebook_of("print('read', 21 * 2, 'rows')", "raise ValueError('no readings')"))
    )
    return losant.add_notebook(
        "Sums",
        file=tmp_path / "sums.ipynb",
        outputs=[
            {"outputType": "executionResult", "fileName": name}
            for name in ("result.ipynb", "result.log", "result.error.log")
        ],
    )


@pytest.mark.kernel
@BOTH_MODES
def test_a_notebook_whose_second_cell_fails_leaves_itself_and_what_it_printed(
    losant: Emulator, real: str, tmp_path: Path, task_log: TaskLog, *, deferrable: bool
) -> None:
    folder = tmp_path / "outputs"
    with pytest.raises(NotebookExecutionFailed, match="no readings") as failed:
        task(
            real,
            deferrable=deferrable,
            save_outputs_to=str(folder),
            save_outputs_when="always",
            log_output=True,
        ).run()

    saved = files_in(folder / "failed" / str(failed.value.execution_id))
    first, second = json.loads(saved["result.ipynb"])["cells"]
    assert "read 42 rows" in json.dumps(first["outputs"])
    assert second["outputs"][0]["ename"] == "ValueError"
    assert b"read 42 rows" in saved["result.log"]
    (group,) = groups(task_log())
    assert "read 42 rows" in group
    assert "ValueError" in str(failed.value.error_log)


@pytest.mark.kernel
def test_the_error_of_a_real_notebook_stands_although_the_storage_is_down(
    losant: Emulator, real: str, no_storage: str, task_log: TaskLog
) -> None:
    with pytest.raises(NotebookExecutionFailed, match="no readings"):
        task(real, save_outputs_to=no_storage, save_outputs_when="always", log_output=True).run()

    assert len(lines_with("could not be saved", task_log())) == 1
