# SPDX-License-Identifier: Apache-2.0
"""Deploying notebooks and exporting their input data, as tasks."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_losant._compat import AirflowException, storage_path
from airflow_provider_losant.api.errors import RateLimited, TransportError
from airflow_provider_losant.emulator import Emulator, Fault
from airflow_provider_losant.exceptions import LosantConfigError
from airflow_provider_losant.operators.export import LosantNotebookInputDataExportOperator
from airflow_provider_losant.operators.upload import LosantNotebookUploadOperator
from tests.provider.conftest import operations
from tests.provider.tasks import Ti, context_of
from tests.provider.test_outputs import store_module

pytestmark = pytest.mark.usefixtures("losant_connection")

OUTPUTS = [{"outputType": "executionResult", "fileName": "result.html"}]


def source(*cells: str) -> str:
    kinds = [
        {"cell_type": "markdown", "id": f"c{n}", "metadata": {}, "source": it} for n, it in enumerate(cells)
    ]
    return json.dumps({"cells": kinds, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "report.ipynb"
    path.write_text(source("# Report"))
    return path


def upload(path: Any, **options: Any) -> dict[str, Any]:
    operator = LosantNotebookUploadOperator(task_id="deploy", path=path, **options)
    ti = Ti()
    result: dict[str, Any] = operator.execute(context_of(ti))
    assert json.loads(json.dumps(result)) == result
    assert ti.pushed == {"notebook_id": result["notebook_id"]}
    return result


def test_a_notebook_is_created_configured_and_uploaded_once_and_then_not_changed(
    losant: Emulator, file: Path
) -> None:
    options = {"notebook_name": "Report", "create": True, "description": "Daily", "outputs": OUTPUTS}

    first = upload(str(file), **options)
    losant.clear_requests()
    second = upload(str(file), **options)

    assert (first["created"], first["changed"], first["uploaded"]) == (True, False, True)
    assert (second["created"], second["changed"], second["uploaded"]) == (False, False, False)
    assert first["notebook_id"] == second["notebook_id"]
    assert first["url"].endswith(f"/notebooks/{first['notebook_id']}")
    assert operations(losant) == ["notebooks.get"]
    assert losant.backend.notebook_path(first["notebook_id"]).read_bytes() == file.read_bytes()


def test_a_changed_file_is_uploaded_and_a_reformatted_one_is_not(losant: Emulator, file: Path) -> None:
    made = upload(file, notebook_name="Report", create=True)["notebook_id"]

    file.write_text(json.dumps(json.loads(file.read_text()), indent=2))
    assert not upload(file, notebook_id=made)["uploaded"]

    file.write_text(source("# Report", "It has changed."))
    assert upload(file, notebook_id=made)["uploaded"]
    assert losant.backend.notebook_path(made).read_bytes() == file.read_bytes()


def test_an_expired_file_url_only_causes_an_upload(losant: Emulator, file: Path) -> None:
    losant.switches.file_url_ttl = -10

    upload(file, notebook_name="Report", create=True)

    assert upload(file, notebook_name="Report")["uploaded"]


def test_a_notebook_can_be_read_from_object_storage(losant: Emulator, file: Path) -> None:
    made = upload(storage_path(f"file://{file}"), notebook_name="Report", create=True)

    assert made["file_name"] == "report.ipynb"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not a notebook: Expecting value"),
        (b"print('hello')", "is not a notebook: Expecting value"),
        (b"\xff\xfe", "is not a notebook"),
        (b"[]", "is not a notebook"),
        (b'{"a": 1}', "is not a notebook: No schema"),
        (b'{"nbformat": 99, "nbformat_minor": 0, "metadata": {}, "cells": []}', "is not a notebook"),
        (
            b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code"}]}',
            "is not a notebook: 'metadata' is a required property",
        ),
    ],
    ids=range(7),
)
def test_a_file_that_is_not_a_notebook_is_refused_before_any_request(
    losant: Emulator, file: Path, content: bytes, says: str
) -> None:
    file.write_bytes(content)

    with pytest.raises(LosantConfigError, match=r"report\.ipynb is not a notebook") as caught:
        upload(file, notebook_name="Report", create=True)

    assert says in str(caught.value)
    assert losant.requests == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"notebook_id": ""}, "notebook_id: is missing, and so is notebook_name"),
        ({"notebook_id": "f" * 24, "create": True}, "create: needs notebook_name"),
        ({"notebook_id": "mine"}, "notebook_id: 'mine' is not a Losant id"),
        ({"path": "/tmp/nowhere.ipynb", "notebook_name": "Report"}, "/tmp/nowhere.ipynb cannot be read"),
        ({"path": "/tmp", "notebook_name": "Report"}, "/tmp cannot be read"),
    ],
    ids=range(5),
)
def test_an_invalid_argument_is_named_before_any_request(
    losant: Emulator, file: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(LosantConfigError) as caught:
        upload(**{"path": file, **options})

    assert says in str(caught.value)
    assert losant.requests == []


class FailingFileSystem(MemoryFileSystem):
    """A storage that fails for a while."""

    cachable = False

    def cat_file(self, path: str, **options: Any) -> bytes:
        raise OSError(errno.EIO, "We encountered an internal error")


def test_a_storage_that_fails_while_the_file_is_read_is_an_error_that_is_retried(losant: Emulator) -> None:
    store_module().attach(protocol="memory", conn_id="failing", fs=FailingFileSystem())
    path = "memory://failing@bucket/report.ipynb"

    with pytest.raises(AirflowException, match=f"^path: {path} cannot be read: .*internal error") as caught:
        upload(path, notebook_name="Report", create=True)

    assert not isinstance(caught.value, LosantConfigError)
    assert losant.requests == []


def test_an_unknown_name_and_an_ambiguous_one_change_nothing(losant: Emulator, file: Path) -> None:
    twins = sorted(losant.add_notebook("Twin") for _ in range(2))

    with pytest.raises(
        LosantConfigError, match="has no notebook named 'Report'; its notebooks: 'Twin', 'Twin'"
    ):
        upload(file, notebook_name="Report")
    with pytest.raises(LosantConfigError, match=f"are named 'Twin': {twins[0]} .*, {twins[1]} "):
        upload(file, notebook_name="Twin", create=True)
    with pytest.raises(LosantConfigError, match="404 NotFound"):
        upload(file, notebook_id="f" * 24)

    assert set(operations(losant)) == {"notebooks.get", "notebook.get"}


def test_a_notebook_is_not_created_twice_when_the_response_is_lost(losant: Emulator, file: Path) -> None:
    losant.inject("notebooks.post", Fault("reset_after"))

    made = upload(file, notebook_name="Report", create=True)

    assert list(losant.backend.notebooks) == [made["notebook_id"]]
    assert made["created"]


def test_without_nbformat_the_error_names_the_extra_to_install(
    losant: Emulator, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nbformat", None)

    with pytest.raises(LosantConfigError, match=r"pip install 'airflow-provider-losant\[upload\]'"):
        upload(file, notebook_name="Report", create=True)
    assert losant.requests == []


# -- exports of input data --------------------------------------------------------------------------------


def export(notebook: str, **options: Any) -> dict[str, Any]:
    operator = LosantNotebookInputDataExportOperator(task_id="export", notebook_id=notebook, **options)
    result: dict[str, Any] = operator.execute(context_of(Ti()))
    return result


def test_an_export_is_requested_once(losant: Emulator, notebook: str) -> None:
    job = export(
        notebook,
        relative_to="2026-01-01T00:00Z",
        template_context={"site": "north"},
        notification_email="a@b.example",
        callback_url="https://hooks.example",
    )

    assert {**job, "job_id": len(job["job_id"])} == {
        "job_id": 21,
        "notebook_id": notebook,
        "application_id": losant.application_id,
    }
    assert [it.body for it in losant.requests] == [
        {
            "relativeTo": "2026-01-01T00:00:00.000Z",
            "templateContext": '{"site":"north"}',
            "email": "a@b.example",
            "callbackUrl": "https://hooks.example",
        }
    ]


def test_an_export_that_is_too_early_fails_with_a_retryable_error(losant: Emulator, notebook: str) -> None:
    export(notebook)

    with pytest.raises(RateLimited, match="one per notebook in 15 minutes"):
        export(notebook)
    losant.inject("notebook.requestInputDataExport", Fault("rate_limited", retry_after=300))
    with pytest.raises(RateLimited, match="retry in 300 s"):
        export(notebook)

    assert len(losant.requests) == 3


def test_an_export_with_a_lost_response_is_not_requested_again(losant: Emulator, notebook: str) -> None:
    losant.inject("notebook.requestInputDataExport", Fault("reset_after"))

    with pytest.raises(TransportError):
        export(notebook)
    assert len(losant.requests) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"notebook": "mine"}, "notebook_id: 'mine' is not a Losant id"),
        ({"relative_to": "soon"}, "relative_to: 'soon' is not a timestamp"),
        ({"template_context": "{"}, "template_context: is not JSON"),
    ],
    ids=range(3),
)
def test_an_invalid_argument_of_an_export_is_named_before_any_request(
    losant: Emulator, notebook: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(LosantConfigError, match=says):
        export(**{"notebook": notebook, **options})
    assert losant.requests == []


def test_outputs_as_tuples_are_not_changed_with_every_run(losant: Emulator, file: Path) -> None:
    outputs = tuple(dict(reversed(it.items())) for it in OUTPUTS)
    upload(file, notebook_name="Report", create=True, outputs=OUTPUTS)

    assert not upload(file, notebook_name="Report", outputs=outputs)["changed"]


def test_an_empty_list_removes_the_outputs_once(losant: Emulator, file: Path) -> None:
    upload(file, notebook_name="Report", create=True, outputs=OUTPUTS)

    assert [upload(file, notebook_name="Report", outputs=())["changed"] for _ in range(2)] == [True, False]
