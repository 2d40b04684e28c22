# SPDX-License-Identifier: Apache-2.0
"""
The hook beside Losant's own Python client: the same requests for the same wishes.

They may differ in the flags that ask for less of an answer, and where the client falls short: it has no
upload, and an ``execute`` without options has no body, which Losant refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import losant_rest  # type: ignore[import-untyped]  # as it ships
import pytest

from airflow_provider_losant.emulator import Emulator, Request, Script
from airflow_provider_losant.hooks.losant import LosantHook
from tests.provider.conftest import connect

FLAGS = {"_actions", "_links", "_embedded"}
MOMENT = "2026-01-01T00:00:00.000Z"
OPTIONS = {
    "relativeTo": MOMENT,
    "templateContext": '{"site":"Zürich"}',
    "email": "a@b.example",
    "callbackUrl": "https://hooks.example",
}
FIELDS: dict[str, Any] = {
    "description": "Daily",
    "outputs": [{"outputType": "temporaryUrl", "fileName": "out.csv"}],
}


@pytest.fixture
def official(losant: Emulator) -> Any:
    return losant_rest.Client(auth_token=losant.token, url=losant.url)


@pytest.fixture
def hook(losant: Emulator, monkeypatch: pytest.MonkeyPatch) -> LosantHook:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    connect(monkeypatch, losant)
    return LosantHook()


def essence(request: Request) -> tuple[Any, ...]:
    query = {name: value for name, value in request.query.items() if name not in FLAGS}
    kind = request.headers.get("content-type", "").split(";")[0]
    return request.method, request.path, query, request.body, kind, request.authorized, request.status


def asked(losant: Emulator, ask: Callable[[], Any]) -> tuple[Any, ...]:
    losant.clear_requests()
    ask()
    (request,) = losant.requests
    return essence(request)


WISHES: dict[str, tuple[Callable[[Any, dict[str, str]], Any], Callable[[LosantHook, str], Any]]] = {
    "execute": (
        lambda its, ids: its.notebook.execute(**ids, executionOptions=OPTIONS),
        lambda hook, notebook: hook.execute_notebook(
            notebook,
            relative_to=MOMENT,
            template_context={"site": "Zürich"},
            email="a@b.example",
            callback_url="https://hooks.example",
        ),
    ),
    "logs": (
        lambda its, ids: its.notebook.logs(**ids, limit="7", since="1767225600000"),
        lambda hook, notebook: hook.get_execution_logs(notebook, limit=7, since=1767225600000),
    ),
    "get": (
        lambda its, ids: its.notebook.get(**ids),
        lambda hook, notebook: hook.get_notebook(notebook),
    ),
    "list": (
        lambda its, ids: its.notebooks.get(
            applicationId=ids["applicationId"], page="0", perPage="100", sortField="id", filter="R*"
        ),
        lambda hook, _: hook.list_notebooks(sortField="id", filter="R*"),
    ),
    "create": (
        lambda its, ids: its.notebooks.post(
            applicationId=ids["applicationId"], notebook={"name": "Report", **FIELDS}
        ),
        lambda hook, _: hook.create_notebook(name="Report", **FIELDS),
    ),
}


@pytest.mark.parametrize("wish", WISHES)
def test_the_hook_asks_as_losants_own_client_does(
    losant: Emulator, official: Any, hook: LosantHook, wish: str
) -> None:
    notebook = losant.add_notebook("Report")
    losant.script(notebook, Script())
    ids = {"applicationId": losant.application_id, "notebookId": notebook}
    theirs, ours = WISHES[wish]

    expected = asked(losant, lambda: theirs(official, ids))

    assert asked(losant, lambda: ours(hook, notebook)) == expected
    assert expected[-1] in {200, 201}


def test_the_hook_cancels_as_losants_own_client_does(
    losant: Emulator, official: Any, hook: LosantHook
) -> None:
    notebook = losant.add_notebook("Report")
    losant.script(notebook, Script(ending="hang"))
    first, second = hook.execute_notebook(notebook), hook.execute_notebook(notebook)
    ids = {"applicationId": losant.application_id, "notebookId": notebook}

    expected = asked(losant, lambda: official.notebook.cancel_execution(**ids, executionId=first))
    ours = asked(losant, lambda: hook.cancel_execution(notebook, second))

    assert ours[:2] == expected[:2]
    assert (ours[2], expected[2]) == ({"executionId": second}, {"executionId": first})
    assert ours[3:] == expected[3:]


def test_both_read_the_same_from_an_answer(losant: Emulator, official: Any, hook: LosantHook) -> None:
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


# -- where Losant's own client falls short ----------------------------------------------------------------


def test_losants_own_client_cannot_upload_and_the_hook_can(
    losant: Emulator, official: Any, hook: LosantHook, tmp_path: Path
) -> None:
    notebook = losant.add_notebook("Report")
    file = tmp_path / "report.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')

    assert not hasattr(official.notebook, "upload")
    assert hook.upload_notebook(notebook, file).file_name == "report.ipynb"


def test_an_execute_without_options_works_through_the_hook_alone(
    losant: Emulator, official: Any, hook: LosantHook
) -> None:
    notebook = losant.add_notebook("Report")
    losant.script(notebook, Script())
    ids = {"applicationId": losant.application_id, "notebookId": notebook}

    with pytest.raises(losant_rest.LosantError, match="executionOptions is required"):
        official.notebook.execute(**ids)

    assert asked(losant, lambda: hook.execute_notebook(notebook))[3] == {}


def test_a_log_that_nobody_set_a_limit_for_shows_one_run_and_the_hooks_shows_more(
    losant: Emulator, official: Any, hook: LosantHook
) -> None:
    notebook = losant.add_notebook("Report")
    losant.script(notebook, Script())
    ids = {"applicationId": losant.application_id, "notebookId": notebook}
    for _ in range(3):
        hook.execute_notebook(notebook)

    assert len(official.notebook.logs(**ids)) == 1
    assert len(hook.get_execution_logs(notebook)) == 3


def test_a_missing_id_is_a_bare_key_error_for_losants_own_client_and_a_sentence_for_us(
    losant: Emulator, official: Any, hook: LosantHook
) -> None:
    with pytest.raises(KeyError, match="notebookId"):
        official.notebook.get(applicationId=losant.application_id)
    with pytest.raises(Exception, match="notebook_id: is missing") as caught:
        hook.get_notebook("")

    assert not isinstance(caught.value, KeyError)
    assert losant.requests == []
