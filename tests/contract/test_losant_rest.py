# SPDX-License-Identifier: Apache-2.0
"""
The hook compared with Losant's own Python client: both send the same requests for the same operations.

They may differ in the flags for a shorter response, and where the client has defects: it has no
upload, an ``execute`` without options has no body, which Losant refuses, and a flag that is true reads
``True``, which Losant reads as false.

The tests can also run against the real Losant: see docs/project/contributing.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import losant_rest  # type: ignore[import-untyped]  # as it ships
import pytest

from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.hooks.losant import LosantHook
from tests.contract.losant_under_test import KINDS_OF_LOSANT, LosantUnderTest, open_losant
from tests.contract.open_questions import answer_questions
from tests.provider.conftest import set_connection
from tests.support.factories import published

Record = Callable[[str, object], None]

MOMENT = "2026-01-01T00:00:00.000Z"
OPTIONS = {
    "relativeTo": MOMENT,
    "templateContext": '{"site":"Zürich"}',
    "email": "a@b.example",
    "callbackUrl": "https://hooks.example",
}
OUR_OPTIONS: dict[str, Any] = {
    "relative_to": MOMENT,
    "template_context": {"site": "Zürich"},
    "email": "a@b.example",
    "callback_url": "https://hooks.example",
}
FIELDS: dict[str, Any] = {
    "description": "Daily",
    "outputs": [{"outputType": "temporaryUrl", "fileName": "out.csv"}],
}
SPAN = {"start": "1767225600000", "end": "1767312000000"}
NEW = "Made by the contract test"
Ids = dict[str, str]

OPERATIONS: dict[str, tuple[Callable[[Any, Ids], Any], Callable[[LosantHook, Ids], Any]]] = {
    "notebooks.get": (
        lambda its, ids: its.notebooks.get(
            applicationId=ids["applicationId"],
            page="0",
            perPage="100",
            sortField="id",
            sortDirection="desc",
            filterField="name",
            filter="R*",
        ),
        lambda hook, _: hook.list_notebooks(sort_by="id", descending=True, name="R*"),
    ),
    "notebooks.post": (
        lambda its, ids: its.notebooks.post(
            applicationId=ids["applicationId"], notebook={"name": NEW, "imageVersion": "v4", **FIELDS}
        ),
        lambda hook, _: hook.create_notebook(name=NEW, image_version="v4", **FIELDS),
    ),
    "notebook.get": (
        lambda its, ids: its.notebook.get(**ids),
        lambda hook, ids: hook.get_notebook(ids["notebookId"]),
    ),
    "notebook.patch": (
        lambda its, ids: its.notebook.patch(**ids, notebook={"name": "Changed", "inputs": [], **FIELDS}),
        lambda hook, ids: hook.update_notebook(ids["notebookId"], name="Changed", inputs=[], **FIELDS),
    ),
    "notebook.delete": (
        lambda its, ids: its.notebook.delete(**ids),
        lambda hook, ids: hook.delete_notebook(ids["notebookId"]),
    ),
    "notebook.execute": (
        lambda its, ids: its.notebook.execute(**ids, executionOptions=OPTIONS),
        lambda hook, ids: hook.execute_notebook(ids["notebookId"], **OUR_OPTIONS),
    ),
    "notebook.cancelExecution": (
        lambda its, ids: its.notebook.cancel_execution(**ids),
        lambda hook, ids: hook.cancel_execution(ids["notebookId"], ids["executionId"]),
    ),
    "notebook.logs": (
        lambda its, ids: its.notebook.logs(**ids, limit="7", since="1767225600000"),
        lambda hook, ids: list(hook.get_execution_logs(ids["notebookId"], limit=7, since=1767225600000)),
    ),
    "notebook.notebookMinuteCounts": (
        lambda its, ids: its.notebook.notebook_minute_counts(**ids, **SPAN),
        lambda hook, ids: hook.get_minute_counts(
            ids["notebookId"], start=int(SPAN["start"]), end=int(SPAN["end"])
        ),
    ),
    "notebook.requestInputDataExport": (
        lambda its, ids: its.notebook.request_input_data_export(**ids, exportOptions=OPTIONS),
        lambda hook, ids: hook.request_input_data_export(ids["notebookId"], **OUR_OPTIONS),
    ),
}

every_losant = pytest.mark.parametrize("tested", KINDS_OF_LOSANT, indirect=True)


@pytest.fixture
def tested(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LosantUnderTest]:
    with open_losant(request.param) as opened:
        if opened.losant is not None:
            for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
                monkeypatch.delenv(name, raising=False)
        fields = {
            "conn_type": "losant",
            "host": opened.url,
            "password": opened.token,
            "extra": {"application_id": opened.application_id, "max_retries": 0},
        }
        monkeypatch.setenv("AIRFLOW_CONN_LOSANT_DEFAULT", json.dumps(fields))
        yield opened


@pytest.fixture
def losant(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with Emulator() as emulator:
        for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        set_connection(monkeypatch, emulator)
        yield emulator


@pytest.fixture
def official(losant: Emulator) -> Any:
    return losant_rest.Client(auth_token=losant.token, url=losant.url)


@pytest.fixture
def hook(losant: Emulator) -> LosantHook:
    return LosantHook()


def replace_ids(exchange: tuple[Any, ...], ids: Ids) -> Any:
    """Replace ids by their names, because each client has its own ids."""
    text = json.dumps(exchange)
    for name, value in ids.items():
        text = text.replace(value, f"{{{name}}}")
    return json.loads(text)


# -- the eleven operations --------------------------------------------------------------------------------


@every_losant
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_hook_sends_the_same_requests_as_losants_own_client(
    tested: LosantUnderTest, operation: str, record_property: Record
) -> None:
    theirs, ours = OPERATIONS[operation]
    official = losant_rest.Client(auth_token=tested.token, url=tested.url)
    exchanges = []
    for client, call in ((official, theirs), (LosantHook(), ours)):
        ids = {"applicationId": tested.application_id, "notebookId": tested.notebook(ending="hang")}
        if operation == "notebook.cancelExecution":
            ids["executionId"] = tested.execution(ids["notebookId"])
        exchanges.append(replace_ids(tested.exchange_of(partial(call, client, ids)), ids))

    assert exchanges[1] == exchanges[0]
    assert exchanges[0][-1] in {200, 201, 202}
    record_property("equal operation", operation)
    if operation == "notebooks.post":
        created = tested.call("GET", f"?filterField=name&filter={NEW}").json()["items"]
        tested.notebooks += [it["id"] for it in created]


@every_losant
def test_the_hook_uploads_as_documented_because_losants_client_cannot(
    tested: LosantUnderTest, tmp_path: Path, record_property: Record
) -> None:
    file = tmp_path / "report.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    ids = {"applicationId": tested.application_id, "notebookId": tested.notebook()}
    official = losant_rest.Client(auth_token=tested.token, url=tested.url)
    path = "/applications/{applicationId}/notebooks/{notebookId}/upload"

    exchange = tested.exchange_of(lambda: LosantHook().upload_notebook(ids["notebookId"], file))

    assert not hasattr(official.notebook, "upload")
    assert replace_ids(exchange, ids) == ["POST", path, {}, None, "multipart/form-data", True, 200]
    assert tested.call("GET", f"/{ids['notebookId']}").json()["jupyterFileName"] == "report.ipynb"
    record_property("equal operation", "notebook.upload")


def test_the_expected_upload_is_the_one_that_losant_publishes() -> None:
    upload = published("operations.json")["operations"]["notebook.upload"]

    assert (upload["method"], upload["path"]) == (
        "POST",
        "/applications/{applicationId}/notebooks/{notebookId}/upload",
    )
    assert [it["name"] for it in upload["params"] if it["in"] == "multipart"] == ["jupyterFile"]


@pytest.mark.skipif(
    "losant" not in KINDS_OF_LOSANT, reason="LOSANT_TEST_TOKEN and LOSANT_TEST_APPLICATION are not set"
)
@pytest.mark.parametrize("tested", ["losant"], indirect=True)
def test_the_real_losant_answers_the_undocumented_questions(
    tested: LosantUnderTest, record_property: Record
) -> None:
    answers = answer_questions(tested)
    for question, answer in answers.items():
        record_property("answered question", f"{question} {answer}")

    assert all(answers.values())


@pytest.mark.parametrize("tested", ["emulator"], indirect=True)
@pytest.mark.parametrize("are_turned", [False, True], ids=["as they are", "turned"])
def test_the_questions_distinguish_the_settings_of_the_emulators_switches(
    tested: LosantUnderTest, *, are_turned: bool
) -> None:
    assert tested.losant is not None
    if are_turned:
        tested.losant.switches.change(
            {
                "no_token_status": 401,
                "max_per_page": 50,
                "since_field": "completed",
                "cancel_queued": "not_found",
                "cancel_final": "bad_request",
                "rate_limit_type": "Throttled",
            }
        )

    answers = list(answer_questions(tested).values())

    assert answers == (
        [
            "401 Unauthorized", "50", "200", "yes", "not inclusive, or a later time", "404 NotFound",
            "200", "429 Throttled, Retry-After absent",
        ]
        if are_turned
        else [
            "403 Forbidden", "1000", "200", "yes", "yes", "200", "404 NotFound",
            "429 TooManyRequests, Retry-After absent",
        ]
    )  # fmt: skip


# -- defects of Losant's own client -----------------------------------------------------------------------


def test_both_clients_read_the_same_from_a_response(
    losant: Emulator, official: Any, hook: LosantHook
) -> None:
    notebook = losant.add_notebook("Report")
    losant.script(notebook, Script(notebook=0.0, files={"out.csv": b"a\n"}))
    losant.switches.resign_urls = False
    ids = {"applicationId": losant.application_id, "notebookId": notebook}
    started = hook.execute_notebook(notebook)

    theirs = official.notebook.logs(**ids, limit="1", _links="false", _embedded="false")
    (ours,) = hook.get_execution_logs(notebook, limit=1)

    assert [dict(ours.raw)] == theirs
    assert theirs[0]["notebookExecutionId"] == started
    assert hook.get_notebook(notebook).raw == official.notebook.get(**ids, _links="false", _embedded="false")


def test_an_execute_without_options_works_through_the_hook_alone(
    losant: Emulator, official: Any, hook: LosantHook
) -> None:
    notebook = losant.add_notebook("Report")
    losant.script(notebook, Script())
    ids = {"applicationId": losant.application_id, "notebookId": notebook}

    with pytest.raises(losant_rest.LosantError, match="executionOptions is required"):
        official.notebook.execute(**ids)
    losant.clear_requests()
    hook.execute_notebook(notebook)

    assert losant.requests[0].body == {}


def test_a_flag_that_is_true_means_false_through_losants_own_client(
    losant: Emulator, official: Any, hook: LosantHook
) -> None:
    notebook = losant.add_notebook("Report")
    ids = {"applicationId": losant.application_id, "notebookId": notebook}

    assert "_links" not in official.notebook.get(**ids, _links=True)
    assert losant.requests[-1].query["_links"] == "True"
    hook.get_notebook(notebook)
    assert losant.requests[-1].query["_links"] == "false"


def test_losants_client_gets_one_log_entry_by_default_and_the_hook_more(
    losant: Emulator, official: Any, hook: LosantHook
) -> None:
    notebook = losant.add_notebook("Report")
    losant.script(notebook, Script())
    ids = {"applicationId": losant.application_id, "notebookId": notebook}
    for _ in range(3):
        hook.execute_notebook(notebook)

    assert len(official.notebook.logs(**ids)) == 1
    assert len(hook.get_execution_logs(notebook)) == 3


def test_a_missing_id_is_a_key_error_in_losants_client_and_explained_by_the_hook(
    losant: Emulator, official: Any, hook: LosantHook
) -> None:
    with pytest.raises(KeyError, match="notebookId"):
        official.notebook.get(applicationId=losant.application_id)
    with pytest.raises(Exception, match="notebook_id: is missing") as caught:
        hook.get_notebook("")

    assert not isinstance(caught.value, KeyError)
    assert losant.requests == []
