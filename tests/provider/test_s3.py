# SPDX-License-Identifier: Apache-2.0
"""Outputs to S3, and notebooks from it, through Airflow's Amazon provider and a local S3."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant._compat import AirflowException, storage_path
from airflow_provider_losant.api.flows.steps import Interrupted
from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.exceptions import (
    LosantConfigError,
    NotebookExecutionFailed,
    NotebookOutputError,
)
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.hooks.output_folder import atomic_write
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from airflow_provider_losant.operators.upload import LosantNotebookUploadOperator
from airflow_provider_losant.transfers.notebook_outputs import LosantNotebookOutputsToObjectStorageOperator
from tests.provider.tasks import BOTH_MODES, Task, Ti, context_of
from tests.provider.test_outputs import store_module
from tests.support.factories import BRIEF

pytest.importorskip("moto", reason="the extra moto is not installed")

if TYPE_CHECKING:
    from tests.provider.conftest import TaskLog
    from tests.support.s3_server import S3Server

pytestmark = [pytest.mark.usefixtures("losant_connection"), pytest.mark.xdist_group("s3")]

FILES = {name: bytes(content) for name, content in BRIEF.files.items()}
SECRET_KEY = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
SESSION_TOKEN = "FwoGZXIvYXdzEXAMPLETOKEN"
MIB = 2**20
NOTEBOOK = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()
EVERY_REQUEST = ("put", "head", "copy", "delete")
"""What writes a small file: to a temporary object, whose size is checked, and which is copied and deleted."""


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    from tests.support.s3_server import S3Server

    with S3Server() as running:
        yield running


@pytest.fixture(scope="module")
def stores() -> dict[str, Any]:
    """Return where Airflow keeps the storages that it has connected to: each takes a quarter of a second."""
    return {}


@pytest.fixture
def s3(server: S3Server, stores: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """
    Return the S3, with the connections ``store``, ``retrying`` and ``no_credentials`` to it.

    The connection ``profile`` names a profile of AWS that does not exist.
    """
    from s3fs import S3FileSystem

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(store_module(), "_STORE_CACHE", stores)
    # The least that S3 allows: 5 MiB, so that smaller files than 50 MiB have several parts, too.
    monkeypatch.setattr(S3FileSystem, "default_block_size", 5 * MIB)
    connect(monkeypatch, "store", server.url, login="AKIAIOSFODNN7EXAMPLE", password=SECRET_KEY)
    connect(monkeypatch, "retrying", server.url, login="AKIAIOSFODNN7EXAMPLE", password=SECRET_KEY, retries=1)
    connect(monkeypatch, "no_credentials", server.url)
    connect(monkeypatch, "profile", server.url, extra={"profile_name": "reports"})
    server.reset()
    return server


def connect(
    monkeypatch: pytest.MonkeyPatch, conn_id: str, url: str, *, retries: int = 0, **fields: Any
) -> None:
    """Make an Airflow connection to an S3, whose client retries less than usual: the retries take seconds."""
    extra = {
        "endpoint_url": url,
        "region_name": "eu-central-1",
        "config_kwargs": {"retries": {"max_attempts": retries}},
        **fields.pop("extra", {}),
    }
    given = {"conn_type": "aws", "extra": extra, **fields}
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(given))


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.add_bucket()


@pytest.fixture
def ended(losant: Emulator, notebook: str) -> str:
    """Return the id of an ended execution."""
    losant.script(notebook, Script(notebook=0.0, files=FILES))
    return LosantHook().execute_notebook(notebook)


def execute(notebook: str, **options: Any) -> Task:
    given = {"task_id": "report", "notebook_id": notebook, "poll_interval": 0.02, **options}
    return Task(lambda: LosantNotebookExecuteOperator(**given))


def transfer(notebook: str, execution: str, folder: Any, **options: Any) -> dict[str, str]:
    operator = LosantNotebookOutputsToObjectStorageOperator(
        task_id="copy", notebook_id=notebook, execution_id=execution, destination=folder, **options
    )
    result: dict[str, str] = operator.execute(context_of(Ti()))
    return result


def upload(path: Any, **options: Any) -> dict[str, Any]:
    given = {"task_id": "deploy", "notebook_name": "Uploaded", "create": True, **options}
    result: dict[str, Any] = LosantNotebookUploadOperator(path=path, **given).execute(context_of(Ti()))
    return result


# -- outputs ----------------------------------------------------------------------------------------------


@BOTH_MODES
def test_the_outputs_of_an_execution_are_saved_to_s3(
    losant: Emulator, notebook: str, s3: S3Server, bucket: str, *, deferrable: bool
) -> None:
    folder = f"s3://store@{bucket}/2026/reports"

    result = execute(notebook, deferrable=deferrable, save_outputs_to=folder).run()

    assert result["saved_outputs"] == {name: f"{folder}/{name}" for name in FILES}
    assert s3.objects(bucket) == {f"2026/reports/{name}": it for name, it in FILES.items()}


@pytest.mark.parametrize("folder", ["reports", "reports/", ""], ids=["folder", "slash", "bucket"])
def test_a_path_object_may_name_the_connection(
    notebook: str, ended: str, s3: S3Server, bucket: str, folder: str
) -> None:
    destination = type(storage_path("/"))(f"s3://{bucket}/{folder}", conn_id="store")

    saved = transfer(notebook, ended, destination)

    prefix = f"{folder.strip('/')}/".lstrip("/")
    assert s3.objects(bucket) == {f"{prefix}{name}": it for name, it in FILES.items()}
    assert {name: storage_path(path).read_bytes() for name, path in saved.items()} == FILES


def test_existing_objects_are_replaced_kept_or_an_error(
    losant: Emulator, notebook: str, ended: str, s3: S3Server, bucket: str
) -> None:
    folder = f"s3://store@{bucket}/reports"
    saved = transfer(notebook, ended, folder)
    s3.client.put_object(Bucket=bucket, Key="reports/out.csv", Body=b"mine")
    losant.clear_requests()

    with pytest.raises(LosantConfigError, match=rf"^destination: {folder}/\S+ already exists"):
        transfer(notebook, ended, folder, if_exists="fail")
    assert transfer(notebook, ended, folder, if_exists="skip") == saved
    assert s3.objects(bucket)["reports/out.csv"] == b"mine"
    transfer(notebook, ended, folder)
    assert s3.objects(bucket) == {f"reports/{name}": it for name, it in FILES.items()}


@pytest.mark.parametrize("folder", ["site [12]", "site *", "50% ü", "2026-01-01T00:00:00+00:00"])
def test_a_folder_is_taken_literally_and_no_other_is_touched(
    losant: Emulator, notebook: str, s3: S3Server, bucket: str, folder: str
) -> None:
    losant.script(notebook, Script(notebook=0.0, files={"out.csv": b"1", "empty.csv": b""}))
    s3.client.put_object(Bucket=bucket, Key="site 1/out.csv", Body=b"other")
    s3.client.put_object(Bucket=bucket, Key=f"{folder}/out.csv/deeper", Body=b"other")

    saved = execute(notebook, save_outputs_to=f"s3://store@{bucket}/{folder}").run()["saved_outputs"]

    assert {name: storage_path(path).read_bytes() for name, path in saved.items()} == {
        "out.csv": b"1",
        "empty.csv": b"",
    }
    assert s3.objects(bucket) == {
        f"{folder}/out.csv": b"1",
        f"{folder}/empty.csv": b"",
        f"{folder}/out.csv/deeper": b"other",
        "site 1/out.csv": b"other",
    }


def test_a_retry_after_the_bucket_has_been_created_only_saves_the_outputs(
    losant: Emulator, notebook: str, s3: S3Server
) -> None:
    ti, folder = Ti(), "s3://store@the-missing-bucket/reports"
    reason = "could not write .*/result.html: The specified bucket does not exist"
    for _ in range(2):
        task = execute(notebook, save_outputs_to=folder)
        task.ti = ti
        with pytest.raises(NotebookOutputError, match=f"^save_outputs_to: {reason}"):
            task.run()
        ti.try_number += 1

    assert "the-missing-bucket" not in [it["Name"] for it in s3.client.list_buckets()["Buckets"]]
    s3.add_bucket("the-missing-bucket")
    again = execute(notebook, save_outputs_to=folder)
    again.ti = ti
    assert set(again.run()["saved_outputs"]) == set(FILES)
    assert len(losant.executions(notebook)) == 1


@pytest.mark.parametrize("if_exists", ["replace", "skip", "fail"])
def test_a_bucket_that_does_not_exist_is_named_with_the_argument(
    notebook: str, ended: str, s3: S3Server, if_exists: Any
) -> None:
    with pytest.raises(NotebookOutputError, match=r"^destination: could not write s3://store@nowhere/x/"):
        transfer(notebook, ended, "s3://store@nowhere/x", if_exists=if_exists)


@pytest.mark.parametrize(("if_exists", "verb"), [("replace", "write"), ("skip", "read"), ("fail", "read")])
def test_missing_credentials_are_reported_with_argument_and_path(
    notebook: str, ended: str, s3: S3Server, bucket: str, *, if_exists: Any, verb: str
) -> None:
    path = f"s3://no_credentials@{bucket}/x"

    with pytest.raises(
        NotebookOutputError, match=rf"^destination: could not {verb} {path}/\S+: (Access Denied|Forbidden)"
    ):
        transfer(notebook, ended, path, if_exists=if_exists)

    assert s3.objects(bucket) == {}


def test_credentials_that_cannot_be_got_fail_the_task_before_the_submission(
    losant: Emulator, notebook: str, ended: str, s3: S3Server
) -> None:
    losant.clear_requests()
    path = "s3://profile@reports/x"

    with pytest.raises(
        NotebookOutputError, match=f"^save_outputs_to: could not open {path}: The config profile"
    ):
        execute(notebook, save_outputs_to=path).run()
    with pytest.raises(NotebookOutputError, match=f"^destination: could not open {path}: The config profile"):
        transfer(notebook, ended, path)
    with pytest.raises(AirflowException, match=rf"^path: {path}\.ipynb cannot be read: The config profile"):
        upload(f"{path}.ipynb")

    assert losant.requests == []


@pytest.mark.parametrize(
    ("retry", "ending", "error", "says"),
    [
        (False, "errored", NotebookExecutionFailed, "^The notebook ended with status errored"),
        (
            True,
            "completed",
            NotebookOutputError,
            "^save_outputs_to: could not write s3://profile@.*: The config profile",
        ),
    ],
    ids=["resumed", "retried"],
)
def test_credentials_that_cannot_be_got_later_do_not_hide_how_the_execution_ended(
    losant: Emulator,
    notebook: str,
    s3: S3Server,
    bucket: str,
    *,
    retry: bool,
    ending: Any,
    error: Any,
    says: str,
) -> None:
    losant.script(notebook, Script(notebook=0.0, ending=ending, files=FILES))
    conn_ids = iter(["profile"] if retry else ["store", "profile"])
    options: dict[str, Any] = {"save_outputs_when": "always", "retry_on": "timeout", "poll_interval": 0.02}
    task = Task(
        lambda: LosantNotebookExecuteOperator(
            task_id="report",
            notebook_id=notebook,
            deferrable=not retry,
            save_outputs_to=f"s3://{next(conn_ids)}@{bucket}",
            **options,
        )
    )
    if retry:
        task.ti = Ti(try_number=2, max_tries=2)
        first = execute(notebook, wait_for_completion=False)
        first.ti = replace(task.ti, try_number=1)
        first.run()

    with pytest.raises(error, match=says):
        task.run()

    assert len(losant.executions(notebook)) == 1


@pytest.mark.parametrize("kind", EVERY_REQUEST)
def test_a_request_that_s3_asks_to_repeat_more_slowly_is_repeated(
    notebook: str, ended: str, s3: S3Server, bucket: str, kind: str
) -> None:
    s3.fail(kind, "SlowDown")

    transfer(notebook, ended, f"s3://retrying@{bucket}/reports")

    assert s3.objects(bucket) == {f"reports/{name}": it for name, it in FILES.items()}
    assert [it.kind for it in s3.requests].count(kind) >= len(FILES) + 1


# -- a failure in the middle ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "code"), [*((kind, "InternalError") for kind in EVERY_REQUEST), ("delete", "AccessDenied")]
)
def test_a_refused_request_fails_the_task_and_leaves_the_existing_object_or_the_whole_new_one(
    notebook: str, ended: str, s3: S3Server, bucket: str, *, kind: str, code: str
) -> None:
    s3.client.put_object(Bucket=bucket, Key="out.csv", Body=b"before")
    s3.fail(kind, code)

    with pytest.raises(NotebookOutputError, match=r"^destination: could not write s3://store@"):
        transfer(notebook, ended, f"s3://store@{bucket}", outputs="out.csv")

    assert s3.objects(bucket) == {"out.csv": FILES["out.csv"] if kind == "delete" else b"before"}


@pytest.fixture
def written(s3: S3Server, bucket: str) -> Callable[..., None]:
    """Return a function that writes 12 MiB, in three parts, to an object that exists."""
    s3.client.put_object(Bucket=bucket, Key="big.bin", Body=b"before")

    def write(then: Callable[[], None] = lambda: None) -> None:
        with atomic_write(storage_path(f"s3://store@{bucket}/big.bin")) as file:
            for _ in range(12):
                file.write(bytes(MIB))
            then()

    return write


def test_a_file_of_several_parts_is_written(s3: S3Server, bucket: str, written: Callable[..., None]) -> None:
    written()

    assert s3.objects(bucket) == {"big.bin": bytes(12 * MIB)}
    assert [it.kind for it in s3.requests].count("part") == 3


@pytest.mark.parametrize("kind", ["create", "part", "complete"])
def test_a_multipart_upload_that_fails_leaves_no_object_and_no_parts(
    s3: S3Server, bucket: str, written: Callable[..., None], kind: str
) -> None:
    s3.fail(kind, "InternalError")

    with pytest.raises(NotebookOutputError, match="internal error"):
        written()

    assert s3.objects(bucket) == {"big.bin": b"before"}
    assert s3.unfinished_uploads(bucket) == []


@pytest.mark.parametrize("error", [Interrupted, OSError])
def test_a_kill_in_the_middle_leaves_no_object_and_no_parts(
    s3: S3Server, bucket: str, written: Callable[..., None], error: type[BaseException]
) -> None:
    def kill() -> None:
        raise error

    with pytest.raises((error, NotebookOutputError)):
        written(kill)

    assert s3.objects(bucket) == {"big.bin": b"before"}
    assert s3.unfinished_uploads(bucket) == []
    assert "complete" not in [it.kind for it in s3.requests]


# -- notebooks --------------------------------------------------------------------------------------------


@pytest.fixture
def source(s3: S3Server, bucket: str) -> str:
    """Return the path of a notebook in S3."""
    s3.client.put_object(Bucket=bucket, Key="notebooks/report.ipynb", Body=NOTEBOOK)
    return f"s3://store@{bucket}/notebooks/report.ipynb"


@pytest.mark.parametrize("times", [0, 1], ids=["at once", "after a request to slow down"])
def test_a_notebook_in_s3_is_uploaded(losant: Emulator, s3: S3Server, source: str, times: int) -> None:
    source = source.replace("store@", "retrying@")
    for kind in ("get", "head"):
        s3.fail(kind, "SlowDown", times)

    made = upload(source)

    assert made["file_name"] == "report.ipynb"
    assert losant.backend.notebook_path(made["notebook_id"]).read_bytes() == NOTEBOOK
    assert not upload(source)["uploaded"]


@pytest.mark.parametrize(
    "path",
    ["store@{bucket}/nowhere.ipynb", "store@nowhere/x.ipynb", "no_credentials@{bucket}/x.ipynb"],
    ids=["no object", "no bucket", "no credentials"],
)
def test_a_notebook_that_cannot_be_read_from_s3_is_an_error_that_is_not_retried(
    losant: Emulator, s3: S3Server, bucket: str, path: str
) -> None:
    path = f"s3://{path.format(bucket=bucket)}"

    with pytest.raises(LosantConfigError, match=f"^path: {path} cannot be read: "):
        upload(path)
    assert losant.requests == []


def test_a_storage_that_fails_while_a_notebook_is_read_is_an_error_that_is_retried(
    losant: Emulator, s3: S3Server, source: str
) -> None:
    for kind in ("get", "head"):
        s3.fail(kind, "InternalError", times=9)

    with pytest.raises(
        AirflowException, match=f"^path: {source} cannot be read: .*Internal Server Error"
    ) as caught:
        upload(source)

    assert not isinstance(caught.value, LosantConfigError)
    assert losant.requests == []


# -- secrets ----------------------------------------------------------------------------------------------


@BOTH_MODES
@pytest.mark.parametrize("code", [None, "AccessDenied"])
def test_no_key_of_aws_and_no_signed_url_is_logged_returned_or_raised(
    losant: Emulator,
    notebook: str,
    s3: S3Server,
    bucket: str,
    *,
    monkeypatch: pytest.MonkeyPatch,
    task_log: TaskLog,
    code: str | None,
    deferrable: bool,
) -> None:
    extra = {"aws_session_token": SESSION_TOKEN}
    connect(monkeypatch, "session", s3.url, login="AKIA", password=SECRET_KEY, extra=extra)
    path = f"s3://session@{bucket}/reports"
    if code is not None:
        s3.fail("put", code, times=9)
    task = execute(notebook, deferrable=deferrable, save_outputs_to=path, log_output=True)

    shown: list[Any] = []
    try:
        shown += [task.run()]
    except NotebookOutputError as error:
        shown += [str(error), repr(error.__cause__)]

    left = json.dumps([shown, task.ti.pushed, task_log()])
    assert [it for it in (SECRET_KEY, SESSION_TOKEN, losant.token, "signature=") if it in left] == []
    assert bucket in left


def test_a_failed_execution_fails_with_its_own_error_when_s3_fails_too(
    losant: Emulator, notebook: str, s3: S3Server, bucket: str, task_log: TaskLog
) -> None:
    losant.script(notebook, Script(notebook=0.0, ending="errored", files=FILES))
    s3.fail("put", "InternalError", times=9)
    options = {"save_outputs_to": f"s3://store@{bucket}", "save_outputs_when": "always"}

    with pytest.raises(NotebookExecutionFailed):
        execute(notebook, **options).run()

    (execution,) = losant.executions(notebook)
    folder = f"s3://store@{bucket}/failed/{execution['id']}"
    problem = "save_outputs_to: could not write"
    assert f"The outputs of the failed execution could not be saved to {folder}: {problem}" in task_log()
    s3.reset()
    with pytest.raises(NotebookExecutionFailed):
        execute(notebook, **options).run()
    assert {key.rpartition("/")[2] for key in s3.objects(bucket)} == set(FILES)
