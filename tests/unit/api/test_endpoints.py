# SPDX-License-Identifier: Apache-2.0
"""Each endpoint as a value: the request, and the parsing of the response."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import (
    BadRequest,
    Forbidden,
    InvalidArgument,
    LosantError,
    NotFound,
    NotLosantApi,
    ProtocolError,
    RateLimited,
    ResponseError,
    ServerError,
    TransportError,
    Unauthorized,
)
from airflow_provider_losant.api.http.response import parse_response
from airflow_provider_losant.api.payloads import encode_context, execution_options, notebook_body
from tests.support.factories import (
    APPLICATION_ID,
    EXECUTION_ID,
    NOTEBOOK_ID,
    REF,
    entry,
    few_examples,
    published,
)

if TYPE_CHECKING:
    from airflow_provider_losant.api.endpoints import Call

BELOW = f"/applications/{APPLICATION_ID}/notebooks"
COMPACT = {"_actions": "false", "_links": "false", "_embedded": "false"}
OPTIONS = {"relativeTo": "2026-01-01T00:00:00.000Z", "templateContext": "{}"}
FILE = Path("report.ipynb")
NOTEBOOK_BODY = {"id": NOTEBOOK_ID, "applicationId": APPLICATION_ID, "name": "Report"}

TABLE: dict[str, tuple[Call[Any], str, str, Mapping[str, str], Any, bool]] = {
    "application.get": (
        endpoints.get_application(APPLICATION_ID),
        "GET", f"/applications/{APPLICATION_ID}", COMPACT, None, True,
    ),
    "notebooks.get": (
        endpoints.list_notebooks(APPLICATION_ID, page=2, per_page=7, sortField="name"),
        "GET", BELOW, {"page": "2", "perPage": "7", "sortField": "name", **COMPACT}, None, True,
    ),
    "notebooks.post": (
        endpoints.create_notebook(APPLICATION_ID, {"name": "Report", "description": "Daily"}),
        "POST", BELOW, {}, {"name": "Report", "description": "Daily"}, False,
    ),
    "notebook.get": (
        endpoints.get_notebook(APPLICATION_ID, NOTEBOOK_ID),
        "GET", f"{BELOW}/{NOTEBOOK_ID}", COMPACT, None, True,
    ),
    "notebook.patch": (
        endpoints.update_notebook(APPLICATION_ID, NOTEBOOK_ID, {"inputs": []}),
        "PATCH", f"{BELOW}/{NOTEBOOK_ID}", {}, {"inputs": []}, True,
    ),
    "notebook.delete": (
        endpoints.delete_notebook(APPLICATION_ID, NOTEBOOK_ID),
        "DELETE", f"{BELOW}/{NOTEBOOK_ID}", {}, None, True,
    ),
    "notebook.notebookMinuteCounts": (
        endpoints.minute_counts(APPLICATION_ID, NOTEBOOK_ID, start=1_767_225_600.25),
        "GET", f"{BELOW}/{NOTEBOOK_ID}/notebookMinuteCounts",
        {"start": "1767225600250", **COMPACT}, None, True,
    ),
    "notebook.requestInputDataExport": (
        endpoints.request_export(APPLICATION_ID, NOTEBOOK_ID, OPTIONS),
        "POST", f"{BELOW}/{NOTEBOOK_ID}/requestInputDataExport", {}, OPTIONS, False,
    ),
    "notebook.upload": (
        endpoints.upload_notebook(APPLICATION_ID, NOTEBOOK_ID, FILE),
        "POST", f"{BELOW}/{NOTEBOOK_ID}/upload", {}, None, True,
    ),
    "notebook.execute": (
        endpoints.execute(APPLICATION_ID, NOTEBOOK_ID, OPTIONS),
        "POST", f"{BELOW}/{NOTEBOOK_ID}/execute", {}, OPTIONS, False,
    ),
    "notebook.cancelExecution": (
        endpoints.cancel_execution(REF),
        "POST", f"{BELOW}/{NOTEBOOK_ID}/cancelExecution", {"executionId": EXECUTION_ID}, None, True,
    ),
    "notebook.logs": (
        endpoints.execution_logs(APPLICATION_ID, NOTEBOOK_ID, limit=20, since=1_767_225_600.25),
        "GET", f"{BELOW}/{NOTEBOOK_ID}/logs",
        {"limit": "20", "since": "1767225600250", **COMPACT}, None, True,
    ),
}  # fmt: skip


def fill(path: str) -> str:
    return path.format(applicationId=APPLICATION_ID, notebookId=NOTEBOOK_ID)


@pytest.mark.parametrize("operation", TABLE)
def test_each_call_has_exactly_the_request_that_is_sent(operation: str) -> None:
    call, method, path, query, body, idempotent = TABLE[operation]

    assert (call.operation, call.method, call.path, dict(call.query)) == (operation, method, path, query)
    assert (call.json, call.idempotent) == (body, idempotent)
    assert call.upload == (FILE if operation == "notebook.upload" else None)


@pytest.mark.parametrize("operation", TABLE)
def test_each_call_is_an_operation_that_losant_publishes(operation: str) -> None:
    described = published("operations.json")
    call = TABLE[operation][0]
    real = described["operations"][operation]
    known = {it["name"] for it in (*described["globalParams"], *real["params"]) if it["in"] == "query"}
    needed = {it["name"] for it in real["params"] if it["in"] == "query" and it.get("required")}

    assert (call.method, call.path) == (real["method"], fill(real["path"]))
    assert needed <= set(call.query) <= known
    assert (call.scope or call.operation) in real["scope"]
    assert any(it["in"] == "body" for it in real["params"]) == (call.json is not None)
    assert any(it["in"] == "multipart" for it in real["params"]) == (call.upload is not None)


def test_every_call_of_the_module_is_in_the_table() -> None:
    source = Path(endpoints.__file__).read_text()

    assert set(re.findall(r'operation="([\w.]+)"', source)) == set(TABLE)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (endpoints.list_notebooks, "application_id"),
        (lambda bad: endpoints.get_notebook(bad, NOTEBOOK_ID), "application_id"),
        (lambda bad: endpoints.get_notebook(APPLICATION_ID, bad), "notebook_id"),
        (lambda bad: endpoints.execute(APPLICATION_ID, bad, {}), "notebook_id"),
        (lambda bad: endpoints.execution_logs(APPLICATION_ID, bad, limit=1, since=0), "notebook_id"),
    ],
    ids=["list", "get by application", "get", "execute", "logs"],
)
@pytest.mark.parametrize("bad", ["../../secrets", "", None, "x" * 24])
def test_an_invalid_id_never_gets_into_a_path(make: Any, field: str, bad: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"^{field}: "):
        make(bad)


def test_only_the_given_fields_of_a_notebook_are_sent_in_losants_spelling() -> None:
    assert notebook_body({}) == {}
    assert notebook_body({"image_version": "v4", "inputs": [], "description": ""}) == {
        "imageVersion": "v4",
        "inputs": [],
        "description": "",
    }


def test_minute_counts_are_parsed_as_losant_publishes_them() -> None:
    (example,) = published("schemas.json")["notebookMinuteCounts"]["examples"]

    read = endpoints.minute_counts(APPLICATION_ID, NOTEBOOK_ID).parse(example)

    (day,) = read.days
    assert (read.minutes, day.minutes, day.completed, day.errored, day.canceled, day.timeout) == (
        17, 17, 4, 1, 0, 0,
    )  # fmt: skip
    assert (read.start, day.date.tzinfo, read.raw) == (
        datetime(1999, 5, 20, 5, tzinfo=UTC),
        UTC,
        example,
    )


def test_only_the_options_that_are_given_are_sent() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)

    assert execution_options() == {}
    assert execution_options(
        relative_to=moment, template_context="{}", email="a@b.example", callback_url="https://x.example"
    ) == {
        "relativeTo": "2026-01-01T00:00:00.000Z",
        "templateContext": "{}",
        "email": "a@b.example",
        "callbackUrl": "https://x.example",
    }


def test_the_options_are_those_that_losant_publishes() -> None:
    from jsonschema import Draft7Validator

    schema = published("schemas.json")["notebookExecutionOptions"]
    every = execution_options(
        relative_to=datetime(2026, 1, 1, tzinfo=UTC),
        template_context=encode_context({"a": 1}),
        email="a@b.example",
        callback_url="https://x.example",
    )

    assert set(every) == set(schema["properties"])
    Draft7Validator(schema).validate(every)
    Draft7Validator(schema).validate(execution_options())


def parse_response_of(
    status: int = 200,
    body: Any = None,
    kind: str = "application/json",
    call: Call[Any] | None = None,
    **headers: str,
) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given: CaseInsensitiveDict[str] = CaseInsensitiveDict(
        {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    )
    return parse_response(call or TABLE["notebook.get"][0], status, given, content)


def test_a_response_is_parsed_into_the_promised_type() -> None:
    read = parse_response_of(200, NOTEBOOK_BODY)
    page = parse_response_of(200, {"items": [NOTEBOOK_BODY], "totalCount": 5}, call=TABLE["notebooks.get"][0])
    started = parse_response_of(
        200, {"success": True, "executionId": EXECUTION_ID}, call=TABLE["notebook.execute"][0]
    )
    log = parse_response_of(200, [entry("completed")], call=TABLE["notebook.logs"][0])
    cancelled = parse_response_of(200, {"success": True}, call=TABLE["notebook.cancelExecution"][0])

    assert (read.id, page.total, page.notebooks[0].id) == (NOTEBOOK_ID, 5, NOTEBOOK_ID)
    assert (started, log.find(EXECUTION_ID).ref, cancelled) == (REF, REF, None)


@pytest.mark.parametrize(
    ("status", "body", "kind", "expected", "says"),
    [
        (400, {"type": "Validation", "message": "limit is wrong"}, "json", BadRequest, "400 Validation"),
        (400, {"code": "InvalidContent", "message": "Invalid JSON"}, "json", BadRequest, "InvalidContent"),
        (401, {"type": "Unauthorized", "message": "Expired"}, "json", Unauthorized, "token is wrong"),
        (403, {"type": "Forbidden", "message": "No"}, "json", Forbidden, "needs the scope notebook.get"),
        (404, {"type": "NotFound", "message": "No"}, "json", NotFound, "404 NotFound for notebook.get: No"),
        (405, {"type": "MethodNotAllowed", "message": "No"}, "json", ResponseError, "405"),
        (413, b"", "text/plain", ResponseError, "413 for notebook.get: no message"),
        (404, b"", "text/plain", NotFound, "404"),
        (400, [1, 2], "json", NotLosantApi, "got 400 with JSON that is not Losant's"),
        (405, {"detail": "No"}, "json", NotLosantApi, "the host is not Losant's API"),
        (403, {"message": "Forbidden"}, "json", Forbidden, "403 for notebook.get: Forbidden"),
        (400, {"type": None, "message": None}, "json", BadRequest, "400 for notebook.get: no message"),
        (429, b"<html>slow down</html>", "text/html", RateLimited, "429"),
        (502, b"<html>Bad Gateway</html>", "text/html", ServerError, "502"),
        (503, b"", "text/plain", ServerError, "503"),
        (404, b"<html>Not here</html>", "text/html", NotLosantApi, "the host is not Losant's API"),
        (403, b"<html>Firewall</html>", "text/html", NotLosantApi, "the host is not Losant's API"),
        (200, b"<html>Welcome</html>", "text/html", NotLosantApi, "got text/html instead of JSON"),
        (200, b"", "text/plain", ProtocolError, "is not complete JSON (0 bytes)"),
        (204, b"", "", ProtocolError, "is not complete JSON (0 bytes)"),
        (301, b"", "text/html", NotLosantApi, "was redirected (301)"),
        (302, {"id": NOTEBOOK_ID}, "json", NotLosantApi, "was redirected (302)"),
        (304, b"", "text/plain", NotLosantApi, "was redirected (304)"),
        (
            200,
            b'{"id": "5c78',
            "application/json; charset=utf-8",
            ProtocolError,
            "is not complete JSON (12 bytes)",
        ),
        (200, b"", "application/json", ProtocolError, "is not complete JSON (0 bytes)"),
        (200, b"\xff\xfe", "application/json", ProtocolError, "is not complete JSON"),
        (200, {"id": NOTEBOOK_ID}, "json", ProtocolError, "unknown shape: KeyError 'applicationId'"),
        (200, [], "json", ProtocolError, "unknown shape"),
        (200, None, "json", ProtocolError, "unknown shape"),
        (200, "text", "json", ProtocolError, "unknown shape"),
    ],
    ids=str,
)
def test_every_error_response_raises_its_own_error(
    status: int, body: Any, kind: str, expected: type[LosantError], says: str
) -> None:
    with pytest.raises(LosantError) as caught:
        parse_response_of(status, body, "application/json" if kind == "json" else kind)

    assert type(caught.value) is expected
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("notebook.execute", {"success": True}),
        ("notebook.execute", {"executionId": "not-an-id"}),
        ("notebook.execute", {"executionId": None}),
        ("notebook.logs", {"items": []}),
        ("notebook.logs", [{"id": EXECUTION_ID}]),
        ("notebook.logs", [entry(runQueuedAt="yesterday")]),
        ("notebook.logs", [entry(executionErrors=["boom"])]),
        ("notebooks.get", {"items": {}}),
        ("notebooks.get", []),
    ],
    ids=str,
)
def test_a_response_of_another_shape_is_never_a_bare_key_error(operation: str, body: Any) -> None:
    with pytest.raises(ProtocolError, match="unknown shape"):
        parse_response_of(200, body, call=TABLE[operation][0]).find(EXECUTION_ID)  # parsed on access


def test_an_unreadable_execute_response_may_have_taken_effect() -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_response_of(200, {"success": True}, call=TABLE["notebook.execute"][0])

    assert caught.value.may_have_taken_effect


def test_a_refused_cancel_names_the_scope_of_execute() -> None:
    with pytest.raises(Forbidden, match=r"needs the scope notebook\.execute"):
        parse_response_of(403, {"type": "Forbidden"}, call=TABLE["notebook.cancelExecution"][0])


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("nonsense", None)])
def test_retry_after_is_stored_on_the_error(header: str, seconds: float | None) -> None:
    with pytest.raises(RateLimited) as caught:
        parse_response_of(429, {}, Retry_After=header)

    assert caught.value.retry_after == seconds


@few_examples
@given(st.integers(min_value=200, max_value=599), st.binary(max_size=40), st.sampled_from(list(TABLE)))
def test_any_response_raises_only_losant_errors(status: int, body: bytes, operation: str) -> None:
    with contextlib.suppress(ResponseError, ProtocolError, TransportError):
        parse_response_of(status, body, call=TABLE[operation][0])
        assert status < 300
