# SPDX-License-Identifier: Apache-2.0
"""The hook: the requests of each method, and how it uses a connection."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests

from airflow_provider_losant import __version__
from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import BadRequest, NotFound, RateLimited, ServerError, TransportError
from airflow_provider_losant.api.http.decoding import CHUNK_SIZE
from airflow_provider_losant.emulator import Emulator, Fault, Script
from airflow_provider_losant.exceptions import LosantConfigError
from airflow_provider_losant.hooks.losant import LosantHook
from tests.provider.conftest import operations, set_connection
from tests.support.client_kinds import steps
from tests.support.http_stub import HttpStub, http, self_signed

pytestmark = pytest.mark.usefixtures("losant_connection")

NONEXISTENT_ID = "0123456789abcdef01234567"


def test_a_notebook_can_be_created_uploaded_and_read(losant: Emulator, tmp_path: Path) -> None:
    file = tmp_path / "report.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    hook = LosantHook()

    made = hook.create_notebook(name="Report", description="Daily")
    uploaded = hook.upload_notebook(made.id, file)
    read = hook.get_notebook(made.id)

    assert (made.name, made.description, made.application_id) == ("Report", "Daily", losant.application_id)
    assert uploaded.file_name == read.file_name == "report.ipynb"
    assert [it.id for it in hook.list_notebooks()] == [made.id]
    assert read.raw["notebookId"] == made.id


def test_all_notebooks_are_listed_page_by_page(losant: Emulator) -> None:
    made = {losant.add_notebook(f"N{number}") for number in range(101)}

    found = LosantHook().list_notebooks(descending=True)

    assert {it.id for it in found} == made
    assert [it.query["page"] for it in losant.requests] == ["0", "1"]
    assert {it.query["sortDirection"] for it in losant.requests} == {"desc"}


def test_all_notebooks_are_listed_when_losant_returns_smaller_pages(losant: Emulator) -> None:
    losant.switches.max_per_page = 2
    for number in range(5):
        losant.add_notebook(f"N{number}")

    assert len(LosantHook().list_notebooks()) == 5


def test_one_page_of_notebooks_can_be_requested(losant: Emulator) -> None:
    for number in range(5):
        losant.add_notebook(f"N{number}")

    assert [it.name for it in LosantHook().list_notebooks(page=1, per_page=2)] == ["N2", "N3"]
    assert LosantHook().list_notebooks(page=9) == []
    assert [it.query["page"] for it in losant.requests] == ["1", "9"]


def test_notebooks_are_found_by_a_glob(losant: Emulator) -> None:
    for name in ("Energy north", "Energy south", "Fleet"):
        losant.add_notebook(name)

    found = LosantHook().list_notebooks(name="Energy*", sort_by="creationDate", descending=True)

    assert [it.name for it in found] == ["Energy south", "Energy north"]


def test_an_update_keeps_unnamed_fields_and_replaces_lists_completely(losant: Emulator) -> None:
    hook = LosantHook()
    first, second = ({"outputType": "temporaryUrl", "fileName": name} for name in ("a.csv", "b.csv"))
    made = hook.create_notebook(name="Report", description="Daily", image_version="v3", outputs=[first])

    changed = hook.update_notebook(made.id, image_version="v4", outputs=[second])

    assert (changed.name, changed.description, changed.image_version) == ("Report", "Daily", "v4")
    assert changed.outputs == hook.get_notebook(made.id).outputs == (second,)


def test_a_notebook_can_be_deleted_once(losant: Emulator, notebook: str) -> None:
    hook = LosantHook()

    hook.delete_notebook(notebook)

    with pytest.raises(NotFound):
        hook.delete_notebook(notebook)
    assert hook.list_notebooks() == []


def test_a_delete_with_a_lost_response_is_not_an_error(losant: Emulator, notebook: str) -> None:
    losant.inject("notebook.delete", Fault("reset_after"))

    LosantHook().delete_notebook(notebook)

    assert [it.status for it in losant.requests] == [None, 404]


def test_minutes_are_counted_by_day(losant: Emulator, notebook: str) -> None:
    hook = LosantHook()
    losant.script(notebook, Script(notebook=0.0))
    hook.execute_notebook(notebook)
    losant.script(notebook, Script(notebook=0.0, ending="errored"))
    hook.execute_notebook(notebook)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

    counts = hook.get_minute_counts(notebook, start=today - timedelta(days=1))
    before = hook.get_minute_counts(notebook, end=today - timedelta(days=1))

    (day,) = counts.days
    assert (day.date, day.completed, day.errored, day.canceled, day.timeout) == (today, 1, 1, 0, 0)
    assert (counts.minutes, counts.start) == (2, today - timedelta(days=1))
    assert (before.minutes, before.days) == (0, ())
    assert hook.get_notebook(notebook).minutes_this_period == 2


def test_input_data_is_exported_once_in_fifteen_minutes(losant: Emulator, notebook: str) -> None:
    hook = LosantHook()

    job = hook.request_input_data_export(notebook, relative_to="2026-01-01", email="a@b.example")

    assert len(job) == 21
    assert losant.requests[0].body == {"relativeTo": "2026-01-01T00:00:00.000Z", "email": "a@b.example"}
    with pytest.raises(RateLimited, match="one per notebook in 15 minutes") as refused:
        hook.request_input_data_export(notebook)
    assert refused.value.retry_after is None
    # A second request would be refused, so none is sent.
    assert len(losant.requests) == 2


def test_the_time_until_the_next_export_is_reported_if_losant_sends_it(
    losant: Emulator, notebook: str
) -> None:
    losant.inject("notebook.requestInputDataExport", Fault("rate_limited", retry_after=541))

    with pytest.raises(RateLimited, match="retry in 541 s") as refused:
        LosantHook().request_input_data_export(notebook)

    assert refused.value.retry_after == 541


def test_an_export_that_losant_may_have_accepted_is_not_repeated(losant: Emulator, notebook: str) -> None:
    losant.inject("notebook.requestInputDataExport", Fault("reset_after"))

    with pytest.raises(TransportError):
        LosantHook().request_input_data_export(notebook)

    assert len(losant.requests) == 1


class Pieces(io.BytesIO):
    """Records the sizes of the reads."""

    sizes: ClassVar[list[int]] = []

    def read(self, size: int | None = -1) -> bytes:
        self.sizes.append(size or -1)
        return super().read(size)


def test_a_file_is_uploaded_in_chunks_and_from_its_start_on_a_retry(losant: Emulator, notebook: str) -> None:
    content = bytes(range(256)) * 4_000

    class File:
        name = "Zürich 1.ipynb"

        def open(self, mode: str) -> Any:
            return Pieces(content)

    losant.inject("notebook.upload", Fault("server_error"))

    uploaded = LosantHook().upload_notebook(notebook, File())

    assert losant.backend.notebook_path(notebook).read_bytes() == content
    assert uploaded.file_name == "Zürich 1.ipynb"
    assert 0 < min(Pieces.sizes) <= max(Pieces.sizes) <= CHUNK_SIZE < len(content)


@pytest.mark.parametrize("spell", [str, Path, "file://{}".format], ids=["text", "path", "url"])
def test_a_file_can_be_uploaded_from_object_storage(
    losant: Emulator, notebook: str, tmp_path: Path, spell: Any
) -> None:
    file = tmp_path / "report.ipynb"
    file.write_text("{}")

    assert LosantHook().upload_notebook(notebook, spell(file)).file_name == "report.ipynb"
    assert losant.backend.notebook_path(notebook).read_text() == "{}"


def test_a_missing_file_is_reported_before_any_request(losant: Emulator, notebook: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.ipynb"):
        LosantHook().upload_notebook(notebook, "/tmp/nowhere.ipynb")
    assert operations(losant) == []


def test_an_execution_can_be_started_read_and_cancelled(losant: Emulator, notebook: str) -> None:
    losant.script(notebook, Script(ending="hang"))
    hook = LosantHook()
    moment = datetime(2026, 1, 1, tzinfo=UTC)

    started = hook.execute_notebook(
        notebook,
        relative_to=moment,
        template_context={"site": "north"},
        email="a@b.example",
        callback_url="https://hooks.example",
    )
    run = hook.get_execution(notebook, started)
    hook.cancel_execution(notebook, started)

    assert losant.requests[0].body == {
        "relativeTo": "2026-01-01T00:00:00.000Z",
        "templateContext": '{"site":"north"}',
        "email": "a@b.example",
        "callbackUrl": "https://hooks.example",
    }
    assert (run.ref.execution_id, run.relative_to) == (started, moment)
    assert losant.executions(notebook)[0]["status"] == "canceled"
    with pytest.raises(NotFound):
        hook.cancel_execution(notebook, started)


def test_logs_are_requested_with_limit_and_since(losant: Emulator, notebook: str) -> None:
    hook = LosantHook()
    runs = [hook.execute_notebook(notebook) for _ in range(3)]
    losant.clear_requests()

    everything = hook.get_execution_logs(notebook)
    latest = hook.get_execution_logs(notebook, limit=1, since=datetime.now(UTC) - timedelta(hours=1))

    assert [it.ref.execution_id for it in everything] == runs[::-1]
    assert [it.ref.execution_id for it in latest] == runs[-1:]
    assert [{"limit", "since"} & set(it.query) for it in losant.requests] == [{"limit"}, {"limit", "since"}]


def test_an_execution_is_found_by_its_id_in_capitals(losant: Emulator, notebook: str) -> None:
    hook = LosantHook()
    started = hook.execute_notebook(notebook)

    assert hook.get_execution(notebook.upper(), started.upper()).ref.execution_id == started


def test_an_execution_missing_from_the_log_is_not_found(losant: Emulator, notebook: str) -> None:
    with pytest.raises(NotFound, match="does not list"):
        LosantHook().get_execution(notebook, NONEXISTENT_ID)


def test_the_application_comes_from_argument_then_hook_then_connection(losant: Emulator) -> None:
    mine, other = losant.application_id, losant.add_application()

    assert LosantHook().resolve_application_id() == mine
    assert LosantHook(application_id=other).resolve_application_id() == other
    assert LosantHook(application_id=other).resolve_application_id(mine) == mine


def test_every_request_has_a_user_agent(losant: Emulator, notebook: str) -> None:
    from airflow import __version__ as airflow

    LosantHook().get_notebook(notebook)

    agent = losant.requests[0].headers["user-agent"]
    assert agent.startswith(f"airflow-provider-losant/{__version__} apache-airflow/{airflow} python/3.")


def test_the_session_can_be_used_for_other_endpoints(losant: Emulator) -> None:
    hook = LosantHook()
    url = f"{losant.url}/applications/{losant.application_id}"

    with hook.get_conn() as session:
        assert isinstance(session, requests.Session)
        assert session.get(url, timeout=5).json()["id"] == losant.application_id


def test_the_session_trusts_the_connections_ca_bundle(
    losant: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    context, bundle = self_signed(tmp_path)
    with HttpStub(http({"id": NONEXISTENT_ID}), context) as server:
        set_connection(monkeypatch, losant, host=server.url, extra={"verify": str(bundle)})
        with LosantHook().get_conn() as session:
            assert session.get(f"{server.url}/me", timeout=5).json() == {"id": NONEXISTENT_ID}


def test_many_methods_share_one_session(losant: Emulator, notebook: str) -> None:
    hook = LosantHook()

    assert hook.get_conn() is hook.get_conn()
    assert hook.client.session is hook.get_conn()


def test_reads_are_retried_while_losant_is_unavailable_but_submissions_are_not(
    losant: Emulator, notebook: str
) -> None:
    hook = LosantHook()
    losant.inject("notebook.get", Fault("reset_before"))
    losant.inject("notebook.execute", Fault("reset_after"))

    assert hook.get_notebook(notebook).id == notebook
    with pytest.raises(TransportError):
        hook.execute_notebook(notebook)
    assert len(losant.executions(notebook)) == 1


def test_retries_end_after_the_connections_max_retries(losant: Emulator, notebook: str) -> None:
    losant.inject("notebook.get", Fault("server_error"), times=10)

    with pytest.raises(ServerError):
        LosantHook().get_notebook(notebook)
    assert operations(losant) == ["notebook.get"] * 2


def test_a_rotated_token_is_reloaded_from_the_connection(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connection(monkeypatch, losant, password="old")
    hook = LosantHook()
    hook.get_conn()
    set_connection(monkeypatch, losant)

    assert hook.get_notebook(notebook).id == notebook
    assert [it.status for it in losant.requests] == [401, 200]


def test_a_rotated_token_is_reloaded_in_a_triggerer_too(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = LosantHook()

    async def rotate_and_ask() -> Any:
        set_connection(monkeypatch, losant, password="old")
        flow = steps(endpoints.get_notebook(losant.application_id, notebook))
        asking = hook.arun(wait_for_rotation(flow))
        return await asking

    def wait_for_rotation(flow: Any) -> Any:
        set_connection(monkeypatch, losant)
        return (yield from flow)

    assert asyncio.run(rotate_and_ask()).id == notebook
    assert [it.status for it in losant.requests] == [401, 200]


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda hook, _: hook.get_notebook("abc"), "notebook_id: 'abc' is not a Losant id"),
        (lambda hook, _: hook.get_notebook(None), "notebook_id: is missing"),
        (
            lambda hook, it: hook.get_notebook(it, application_id="x"),
            "application_id: 'x' is not a Losant id",
        ),
        (lambda hook, it: hook.get_execution(it, "latest"), "execution_id: 'latest' is not a Losant id"),
        (lambda hook, it: hook.cancel_execution(it, ""), "execution_id: is missing"),
        (
            lambda hook, it: hook.execute_notebook(it, relative_to="soon"),
            "relative_to: 'soon' is not a timestamp",
        ),
        (lambda hook, it: hook.execute_notebook(it, template_context="{"), "template_context: is not JSON"),
        (
            lambda hook, it: hook.execute_notebook(it, template_context={"a": "b" * 33_000}),
            "Losant accepts at most 32,767",
        ),
        (lambda hook, it: hook.get_execution_logs(it, since="soon"), "since: 'soon' is not a timestamp"),
        (lambda hook, it: hook.get_minute_counts(it, end="soon"), "end: 'soon' is not a timestamp"),
        (lambda hook, it: hook.request_input_data_export(it, relative_to=7), "relative_to: 7 is too small"),
        (lambda hook, _: hook.update_notebook("abc"), "notebook_id: 'abc' is not a Losant id"),
        (lambda hook, _: hook.delete_notebook("abc"), "notebook_id: 'abc' is not a Losant id"),
    ],
    ids=range(13),
)
def test_an_argument_that_losant_would_refuse_is_reported_before_any_request(
    losant: Emulator, notebook: str, ask: Any, says: str
) -> None:
    with pytest.raises(LosantConfigError) as caught:
        ask(LosantHook(), notebook)

    assert says in str(caught.value)
    assert operations(losant) == []


def test_losants_own_message_is_reported_when_it_refuses_a_request(losant: Emulator, notebook: str) -> None:
    with pytest.raises(BadRequest, match=r"400 Validation for notebook.patch: "):
        LosantHook().update_notebook(notebook, name="")


def test_a_missing_connection_is_named() -> None:
    with pytest.raises(Exception, match="losant_elsewhere") as caught:
        LosantHook("losant_elsewhere").test_connection()

    assert not isinstance(caught.value, KeyError)


@pytest.mark.parametrize("method", ["execute_notebook", "request_input_data_export"])
@pytest.mark.parametrize(("argument", "value"), [("email", "a plant"), ("callback_url", "hooks.example")])
def test_an_address_that_is_none_is_refused_by_name_before_any_request(
    losant: Emulator, notebook: str, method: str, argument: str, value: str
) -> None:
    losant.clear_requests()

    with pytest.raises(LosantConfigError, match=f"^{argument}: "):
        getattr(LosantHook(), method)(notebook, **{argument: value})

    assert losant.requests == []
