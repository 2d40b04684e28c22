# SPDX-License-Identifier: Apache-2.0
"""Output files in object storage: saved completely or not at all, in every storage."""

from __future__ import annotations

import errno
import logging
import uuid
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_losant._compat import storage_path
from airflow_provider_losant.api.errors import FileAccessDenied, OutputError, TransportError
from airflow_provider_losant.api.flows.steps import Fetch, Interrupted
from airflow_provider_losant.api.http.client import Client
from airflow_provider_losant.api.settings import Settings
from airflow_provider_losant.emulator import Emulator, Fault, Script
from airflow_provider_losant.exceptions import LosantConfigError, NotebookOutputError
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.hooks.output_folder import atomic_write
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.transfers.notebook_outputs import LosantNotebookOutputsToObjectStorageOperator
from tests.provider.conftest import refuse_first_signature
from tests.provider.tasks import BOTH_MODES, Task, Ti, context_of
from tests.support.client_kinds import steps
from tests.support.factories import BRIEF
from tests.support.http_stub import HttpStub, http

if TYPE_CHECKING:
    from tests.provider.conftest import TaskLog

pytestmark = pytest.mark.usefixtures("losant_connection")

FILES = {name: bytes(content) for name, content in BRIEF.files.items()}


class FullFileSystem(MemoryFileSystem):
    """A storage without free space."""

    store: dict[str, Any] = {}  # noqa: RUF012 - as fsspec has it
    cachable = False

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        file = super()._open(path, mode, **options)
        if mode == "wb":
            file.write = no_room
        return file


class OwnFileSystem(MemoryFileSystem):
    """A storage that only Airflow's configuration can reach."""

    store: dict[str, Any] = {}  # noqa: RUF012 - as fsspec has it
    cachable = False


class ReadOnlyFileSystem(MemoryFileSystem):
    """A storage that refuses every write."""

    store: dict[str, Any] = {}  # noqa: RUF012 - as fsspec has it
    cachable = False

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        raise PermissionError(errno.EACCES, "Access Denied", path)


class LossyFileSystem(MemoryFileSystem):
    """A storage that loses bytes."""

    store: dict[str, Any] = {}  # noqa: RUF012 - as fsspec has it
    cachable = False

    def size(self, path: str) -> int:
        return int(super().size(path)) - 1


def no_room(_: bytes) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def store_module() -> Any:
    """Return the module of Airflow's object storage."""
    package = type(storage_path("/")).__module__.rpartition(".")[0]
    return import_module(f"{package}.store")


@pytest.fixture(autouse=True)
def storages() -> Iterator[None]:
    """Register in-memory storages in Airflow: a working one, and three that connections refer to."""
    attach = store_module().attach
    attach(protocol="memory", fs=MemoryFileSystem())
    attach(protocol="memory", conn_id="full", fs=FullFileSystem())
    attach(protocol="memory", conn_id="lossy", fs=LossyFileSystem())
    attach(protocol="memory", conn_id="readonly", fs=ReadOnlyFileSystem())
    yield
    for kind in (MemoryFileSystem, OwnFileSystem, FullFileSystem, LossyFileSystem):
        kind.store.clear()


@pytest.fixture(params=["local path", "file", "memory", "brackets"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    unused = uuid.uuid4().hex
    return {
        "local path": str(tmp_path / "new" / "folder"),
        "file": f"file://{tmp_path}/new/folder",
        "memory": f"memory://{unused}/folder",
        "brackets": f"memory://{unused}/site [1]",  # fsspec takes these for a glob
    }[request.param]


@pytest.fixture
def ended(losant: Emulator, notebook: str) -> str:
    """Return the id of an ended execution."""
    losant.script(notebook, Script(notebook=0.0, files=FILES))
    return LosantHook().execute_notebook(notebook)


def transfer(notebook: str, execution: str, folder: Any, **options: Any) -> dict[str, str]:
    operator = LosantNotebookOutputsToObjectStorageOperator(
        task_id="land", notebook_id=notebook, execution_id=execution, destination=folder, **options
    )
    result: dict[str, str] = operator.execute(context_of(Ti()))
    return result


def content(paths: dict[str, str]) -> dict[str, bytes]:
    return {name: storage_path(path).read_bytes() for name, path in paths.items()}


def names_in(folder: Any) -> set[str]:
    path = storage_path(folder)
    return {it.name for it in path.iterdir()} if path.exists() else set()


# -- the transfer -----------------------------------------------------------------------------------------


def test_all_outputs_are_saved_completely_under_their_names(
    losant: Emulator, notebook: str, ended: str, folder: str
) -> None:
    landed = transfer(notebook, ended, folder)

    assert content(landed) == FILES
    assert landed == {name: str(storage_path(folder) / name) for name in FILES}
    assert names_in(folder) == set(FILES)


def test_outputs_are_selected_by_name_or_glob(
    losant: Emulator, notebook: str, ended: str, folder: str
) -> None:
    assert set(transfer(notebook, ended, folder, outputs="*.csv")) == {"out.csv"}
    assert set(transfer(notebook, ended, folder, outputs=["result.html", "*.h*"])) == {"result.html"}


def test_the_destination_may_be_a_path_object(
    losant: Emulator, notebook: str, ended: str, folder: str
) -> None:
    assert content(transfer(notebook, ended, storage_path(folder) / "deep" / "er")) == FILES


def test_existing_files_are_replaced_kept_or_an_error(
    losant: Emulator, notebook: str, ended: str, folder: str
) -> None:
    landed = transfer(notebook, ended, folder)
    storage_path(landed["out.csv"]).write_bytes(b"mine")

    with pytest.raises(LosantConfigError, match=r"already exists"):
        transfer(notebook, ended, folder, if_exists="fail")
    assert transfer(notebook, ended, folder, if_exists="skip") == landed
    assert content(landed)["out.csv"] == b"mine"
    transfer(notebook, ended, folder)
    assert content(landed) == FILES


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"outputs": "nothing.csv"}, r"has no output 'nothing\.csv'; its outputs: result\.html, out\.csv"),
        ({"max_bytes": 20}, r"more than max_bytes \(20\)"),
        ({"if_exists": "maybe"}, "if_exists: 'maybe' is none of replace, skip, fail"),
        ({"outputs": []}, "outputs: "),
        ({"destination": "nowhere://bucket/x"}, "destination: Airflow has no storage for nowhere://"),
        ({"execution_id": "latest"}, "execution_id: 'latest' is not a Losant id"),
        ({"execution_id": "f" * 24}, "does not list"),
    ],
    ids=range(7),
)
def test_an_unavailable_output_is_reported_and_nothing_is_written(
    notebook: str, ended: str, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    given = {"notebook_id": notebook, "execution_id": ended, "destination": f"{tmp_path}/new", **options}

    with pytest.raises(LosantConfigError, match=says):
        LosantNotebookOutputsToObjectStorageOperator(task_id="land", **given).execute(context_of(Ti()))
    assert list(tmp_path.iterdir()) == []


def test_an_execution_that_has_not_ended_has_no_outputs_to_save(
    losant: Emulator, notebook: str, tmp_path: Path
) -> None:
    losant.script(notebook, Script(ending="hang"))
    running = LosantHook().execute_notebook(notebook)

    with pytest.raises(LosantConfigError, match=r"has not ended \(inProgress\)"):
        transfer(notebook, running, tmp_path)


def test_one_file_can_be_downloaded_with_the_hook(
    losant: Emulator, notebook: str, ended: str, tmp_path: Path
) -> None:
    path = LosantHook().download_output(notebook, ended, "out.csv", tmp_path)

    assert Path(path).read_bytes() == FILES["out.csv"]
    with pytest.raises(OutputError, match="has no output"):
        LosantHook().download_output(notebook, ended, "*.csv", tmp_path)


def test_storage_is_reached_only_with_airflows_own_configuration(
    notebook: str, ended: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Some methods of Airflow's paths create a file system of their own, without its credentials.
    monkeypatch.delitem(store_module()._STORE_CACHE, "memory")
    store_module().attach(protocol="memory", fs=OwnFileSystem())

    landed = transfer(notebook, ended, "memory://bucket/own")
    (kept,) = [file for path, file in OwnFileSystem.store.items() if path.endswith("/out.csv")]
    kept.seek(0)
    kept.write(b"mine")
    again = transfer(notebook, ended, "memory://bucket/own", if_exists="skip")

    assert again == landed
    assert kept.getvalue().startswith(b"mine")
    assert MemoryFileSystem.store == {}
    with pytest.raises(LosantConfigError, match="already exists"):
        transfer(notebook, ended, "memory://bucket/own", if_exists="fail")


# -- destinations that fail -------------------------------------------------------------------------------


def test_a_full_storage_has_no_file_under_the_final_name(losant: Emulator, notebook: str, ended: str) -> None:
    with pytest.raises(NotebookOutputError, match=r"could not write .*No space left on device"):
        transfer(notebook, ended, "memory://full@bucket/reports")

    assert FullFileSystem.store == {}


def test_a_read_only_storage_is_reported(losant: Emulator, notebook: str, ended: str) -> None:
    with pytest.raises(NotebookOutputError, match=r"^destination: could not write .*Access Denied"):
        transfer(notebook, ended, "memory://readonly@bucket/reports")

    assert ReadOnlyFileSystem.store == {}


def test_a_storage_that_loses_bytes_is_detected(losant: Emulator, notebook: str, ended: str) -> None:
    with pytest.raises(NotebookOutputError, match="stored only"):
        transfer(notebook, ended, "memory://lossy@bucket/reports")

    assert LossyFileSystem.store == {}


def test_a_folder_that_cannot_be_created_is_reported(
    losant: Emulator, notebook: str, ended: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(NotebookOutputError, match=r"^destination: could not write"):
        transfer(notebook, ended, tmp_path / "file" / "folder")
    assert [it.name for it in tmp_path.iterdir()] == ["file"]


def test_an_error_while_writing_keeps_the_existing_file(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("before")

    def break_off() -> None:
        with atomic_write(storage_path(tmp_path / "out.csv")) as file:
            file.write(b"half")
            raise TransportError("broke off")

    with pytest.raises(TransportError):
        break_off()

    assert {it.name: it.read_text() for it in tmp_path.iterdir()} == {"out.csv": "before"}


# -- the host of the files --------------------------------------------------------------------------------


def test_a_url_that_expires_during_the_download_is_renewed(
    losant: Emulator, notebook: str, ended: str, tmp_path: Path, task_log: TaskLog
) -> None:
    hook = LosantHook()
    refuse_first_signature(losant)
    landed = hook.download_outputs(notebook, ended, tmp_path)

    assert content(landed) == FILES
    assert [it.operation for it in losant.requests].count("notebook.logs") == 2
    assert "the signed URL has expired" in task_log()
    assert "signature" not in task_log()


def test_a_url_that_is_always_refused_fails_the_task_with_a_retryable_error(
    losant: Emulator, notebook: str, ended: str, tmp_path: Path
) -> None:
    losant.switches.file_url_ttl = -10

    with pytest.raises(FileAccessDenied, match="returned 403"):
        transfer(notebook, ended, tmp_path)
    assert list(tmp_path.iterdir()) == []


def fetch(url: str, open_sink: Any, **more: Any) -> Any:
    client = Client(Settings(token="secret-token", timeout=2), lambda *_: None)
    return client.run(steps(Fetch(url=url, open_sink=open_sink, **more)))


def test_the_token_is_never_sent_to_the_file_host(tmp_path: Path) -> None:
    with HttpStub(http(b"hello")) as host:
        got = fetch(
            f"{host.url}/x?signature=s%2Bx", lambda: atomic_write(storage_path(tmp_path / "x")), size=5
        )

    assert got == 5
    assert b"authorization" not in host.requests[0].lower()
    assert b"secret-token" not in host.requests[0]
    # The signature covers the exact URL.
    assert b"GET /x?signature=s%2Bx HTTP" in host.requests[0]
    assert (tmp_path / "x").read_bytes() == b"hello"


@pytest.mark.parametrize(
    ("response", "more", "error"),
    [
        (http(b"hell"), {"size": 5}, TransportError),
        (http(b"hello!"), {"size": 5}, TransportError),
        (http(b"hello"), {"limit": 4}, OutputError),
        (http(b"hello")[:-2], {}, TransportError),
        (http(b"no", status="403 Forbidden"), {}, FileAccessDenied),
        (http(b"no", status="410 Gone"), {}, FileAccessDenied),
        (http(b"no", status="404 Not Found"), {}, FileAccessDenied),
        (http(b"no", status="503 Slow Down"), {}, TransportError),
        (None, {}, TransportError),
    ],
    ids=["short", "long", "too large", "cut off", "403", "410", "404", "503", "reset"],
)
def test_a_failed_download_leaves_no_file_and_reports_no_url(
    tmp_path: Path, response: Any, more: dict[str, Any], error: type[Exception]
) -> None:
    with HttpStub(response, close_after=True) as host, pytest.raises(error) as caught:
        fetch(f"{host.url}/x?signature=secret", lambda: atomic_write(storage_path(tmp_path / "x")), **more)

    assert "signature" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert list(tmp_path.iterdir()) == []


def test_a_compressed_file_is_decompressed_before_its_size_is_checked(tmp_path: Path) -> None:
    import gzip

    content = b"hello" * 100
    packed = gzip.compress(content)
    with HttpStub(http(packed, Content_Encoding="gzip")) as host:
        # It may be stored compressed, or be compressed in transit.
        for size in (len(packed), len(content), None):
            assert (
                fetch(f"{host.url}/x", lambda: atomic_write(storage_path(tmp_path / "x")), size=size) == 500
            )
            assert (tmp_path / "x").read_bytes() == content
        with pytest.raises(TransportError):
            fetch(f"{host.url}/x", lambda: atomic_write(storage_path(tmp_path / "x")), size=len(packed) + 1)


def test_a_kill_stops_a_download_between_two_chunks(tmp_path: Path) -> None:
    client = Client(Settings(token="t", timeout=2), lambda *_: None)

    def opened() -> Any:
        client.is_interrupted = lambda: True
        return atomic_write(storage_path(tmp_path / "x"))

    with HttpStub(http(b"hello")) as host, pytest.raises(Interrupted):
        client.run(steps(Fetch(url=f"{host.url}/x", open_sink=opened)))
    assert list(tmp_path.iterdir()) == []


def test_no_url_of_a_file_is_logged(
    losant: Emulator, notebook: str, ended: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    transfer(notebook, ended, tmp_path)

    assert "signature=" not in caplog.text


# -- the execute operator ---------------------------------------------------------------------------------


def task(notebook: str, **options: Any) -> Task:
    given = {"task_id": "report", "notebook_id": notebook, "poll_interval": 0.02, **options}
    return Task(lambda: LosantNotebookExecuteOperator(**given))


@BOTH_MODES
def test_all_outputs_can_be_saved_with_one_argument(
    losant: Emulator, notebook: str, folder: str, *, deferrable: bool
) -> None:
    result = task(notebook, deferrable=deferrable, save_outputs_to=folder).run()

    assert content(result["saved_outputs"]) == FILES
    assert set(result["outputs"]) == set(FILES)


def test_a_retry_after_a_completed_execution_only_saves_the_outputs(
    losant: Emulator, notebook: str, tmp_path: Path
) -> None:
    ti = Ti()
    broken = task(notebook, save_outputs_to="memory://full@bucket/reports")
    broken.ti = ti
    with pytest.raises(NotebookOutputError):
        broken.run()
    ti.try_number += 1
    again = task(notebook, save_outputs_to=str(tmp_path))
    again.ti = ti

    assert content(again.run()["saved_outputs"]) == FILES
    assert len(losant.executions(notebook)) == 1


def test_no_outputs_is_not_an_error_and_a_failed_execution_saves_nothing(
    losant: Emulator, notebook: str, tmp_path: Path
) -> None:
    losant.script(notebook, Script(notebook=0.0))
    assert task(notebook, save_outputs_to=str(tmp_path)).run()["saved_outputs"] == {}

    losant.script(notebook, Script(notebook=0.0, ending="errored", files={"result.error.log": b"boom"}))
    with pytest.raises(AirflowException, match="ended with status errored"):
        task(notebook, save_outputs_to=str(tmp_path)).run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"save_outputs_to": "nowhere://x"}, "save_outputs_to: Airflow has no storage"),
        ({"save_outputs_to": "/tmp/x", "wait_for_completion": False}, "needs wait_for_completion"),
    ],
    ids=["storage", "no wait"],
)
def test_an_invalid_destination_is_named_before_the_submission(
    losant: Emulator, notebook: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(LosantConfigError, match=says):
        task(notebook, **options).run()
    assert losant.requests == []


def test_a_temporary_error_while_listing_is_retried(
    losant: Emulator, notebook: str, ended: str, tmp_path: Path
) -> None:
    losant.inject("notebook.logs", Fault("server_error"))

    assert set(transfer(notebook, ended, tmp_path)) == set(FILES)
