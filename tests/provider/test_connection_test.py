# SPDX-License-Identifier: Apache-2.0
"""The Test button: one sentence that names the problem of a connection, and never the token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_losant._compat import AIRFLOW_RELEASE
from airflow_provider_losant.exceptions import LosantConfigError
from airflow_provider_losant.hooks.losant import LosantHook
from airflow_provider_losant.operators.notebook import LosantNotebookExecuteOperator
from tests.provider.conftest import TaskLog, operations, set_connection
from tests.provider.tasks import BOTH_MODES, Ti, context_of, fire, trigger
from tests.support.http_stub import HttpStub, closed_port, http, self_signed

if TYPE_CHECKING:
    from airflow_provider_losant.emulator import Emulator

pytestmark = pytest.mark.usefixtures("losant_connection")

NONEXISTENT_ID = "0123456789abcdef01234567"
RUNNING = ("notebook.execute", "notebook.logs")


def press_test_button(losant: Emulator, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> tuple[bool, str]:
    """Run the connection test of a connection with these fields."""
    set_connection(monkeypatch, losant, **fields)
    is_well, message = LosantHook().test_connection()

    assert (fields.get("password") or losant.token) not in message
    assert len(message.splitlines()) == 1
    return is_well, message


def test_a_working_connection_is_confirmed_without_changing_anything(losant: Emulator, notebook: str) -> None:
    is_well, message = LosantHook().test_connection()

    assert is_well, message
    assert message == f"Connected to Losant: 1 notebook in application {losant.application_id}"
    assert operations(losant) == ["notebooks.get", "notebook.logs", "notebook.cancelExecution"]
    assert notebook not in "".join(it.path for it in losant.requests)


@pytest.mark.parametrize(
    ("fields", "extra", "says"),
    [
        ({"password": "a.garbled.token"}, {}, "the API token is wrong, expired or revoked"),
        ({"password": ""}, {}, "password: is empty"),
        ({}, {"application_id": None}, "application_id: is missing"),
        ({}, {"application_id": "mine"}, "application_id: 'mine' is not a Losant id"),
        ({}, {"application_id": NONEXISTENT_ID}, "Application was not found; check application_id"),
        (
            {"host": "http://losant.example"},
            {},
            "host: 'http://losant.example' would send the token unencrypted",
        ),
        ({"host": "https://losant.invalid"}, {}, "no connection"),
    ],
    ids=["wrong token", "no token", "no application", "bad id", "unknown application", "http", "name"],
)
def test_the_connection_test_reports_the_problem(
    losant: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    extra: dict[str, Any],
    says: str,
) -> None:
    is_well, message = press_test_button(losant, monkeypatch, extra=extra, **fields)

    assert not is_well
    assert says in message


NO_OBJECTS = [
    (json.dumps(json.dumps({"application_id": NONEXISTENT_ID})), "it may have been encoded twice"),
    (f'["{NONEXISTENT_ID}"]', "is JSON, but not an object"),
    ("17", "is JSON, but not an object"),
    ("{'application_id': 1}", "is not valid JSON"),
]
"""Texts of extra that are no JSON object, and what is said about them."""
AIRFLOW_ITSELF_REFUSES = pytest.mark.skipif(
    AIRFLOW_RELEASE in {(3, 0), (3, 1)},
    reason="Airflow refuses such a connection, and says it is not defined",
)

AIRFLOW_2_WARNS = pytest.mark.filterwarnings("ignore:Encountered")


@AIRFLOW_ITSELF_REFUSES
@AIRFLOW_2_WARNS
@pytest.mark.parametrize(("extra", "says"), NO_OBJECTS)
def test_an_extra_that_is_no_object_is_reported_by_name(
    losant: Emulator, monkeypatch: pytest.MonkeyPatch, extra: str, says: str
) -> None:
    is_well, message = press_test_button(losant, monkeypatch, extra=extra)

    assert not is_well
    assert message.startswith("Connection 'losant_default': extra: ")
    assert says in message
    assert NONEXISTENT_ID not in message
    assert operations(losant) == []


@AIRFLOW_ITSELF_REFUSES
@AIRFLOW_2_WARNS
@BOTH_MODES
@pytest.mark.parametrize(("extra", "says"), NO_OBJECTS)
def test_a_task_with_an_extra_that_is_no_object_fails_by_name(
    losant: Emulator,
    notebook: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    extra: str,
    says: str,
    deferrable: bool,
) -> None:
    set_connection(monkeypatch, losant, extra=extra)
    task = LosantNotebookExecuteOperator(task_id="run", notebook_id=notebook, deferrable=deferrable)

    with pytest.raises(LosantConfigError, match=says):
        task.execute(context_of(Ti()))

    assert operations(losant) == []


@AIRFLOW_ITSELF_REFUSES
@AIRFLOW_2_WARNS
@pytest.mark.parametrize(("extra", "says"), NO_OBJECTS)
def test_the_triggerer_names_an_extra_that_is_no_object(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, extra: str, says: str
) -> None:
    set_connection(monkeypatch, losant, extra=extra)

    with pytest.raises(LosantConfigError, match=says):
        fire(trigger(losant, notebook, NONEXISTENT_ID))


@pytest.mark.parametrize("key", ["applicationId", "application-id", "app_id"])
def test_another_spelling_of_the_application_id_is_reported_by_the_key_that_was_found(
    losant: Emulator, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    extra = json.dumps({key: losant.application_id})

    is_well, message = press_test_button(losant, monkeypatch, extra=extra)

    assert not is_well
    assert f"extra: has the key {key!r}, which is not read; rename it to 'application_id'" in message


def test_a_token_with_bearer_is_reported_without_a_request(
    losant: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_well, message = press_test_button(losant, monkeypatch, password=f"Bearer {losant.token}")

    assert not is_well
    assert message.endswith("password: begins with 'Bearer'; enter the API token without Bearer")
    assert losant.token not in message
    assert operations(losant) == []


def test_keys_of_extra_that_are_not_read_are_reported_by_the_test_and_in_the_task_log(
    losant: Emulator, notebook: str, monkeypatch: pytest.MonkeyPatch, task_log: TaskLog
) -> None:
    says = "extra has keys that are not read: 'owner', 'pool'"

    is_well, message = press_test_button(losant, monkeypatch, extra={"owner": "energy", "pool": 4})
    LosantHook().get_notebook(notebook)

    assert is_well
    assert message.endswith(f"; {says}")
    assert f"Connection 'losant_default': {says}" in task_log()


def test_an_expired_token_is_reported_before_any_request(
    losant: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_well, message = press_test_button(losant, monkeypatch, password=losant.add_token(expired=True))

    assert not is_well
    assert message.startswith("The API token expired on 20")
    assert operations(losant) == []


@pytest.mark.parametrize(
    ("scopes", "is_well", "says"),
    [
        (("all.Application",), True, "0 notebooks in application"),
        ((*RUNNING, "notebooks.get"), True, "0 notebooks in application"),
        (
            (*RUNNING, "application.get"),
            True,
            "but the token lacks the scope notebooks.get, so it cannot list notebooks",
        ),
        (
            RUNNING,
            False,
            "lacks the scope notebooks.get (or application.get), so application {} could not be checked",
        ),
        (("all.Application.read",), False, "the token lacks the scope notebook.execute"),
        (("notebooks.get", "notebook.logs"), False, "the token lacks the scope notebook.execute"),
        (("notebooks.get", "notebook.execute"), False, "the token lacks the scope notebook.logs"),
        (
            ("application.get",),
            False,
            "lacks the scopes notebooks.get and notebook.logs and notebook.execute",
        ),
    ],
)
def test_all_missing_scopes_are_reported_at_once(
    losant: Emulator, monkeypatch: pytest.MonkeyPatch, scopes: tuple[str, ...], is_well: bool, says: str
) -> None:
    response = press_test_button(losant, monkeypatch, password=losant.add_token(scopes))

    assert response[0] is is_well
    assert says.format(losant.application_id) in response[1]


def test_an_unknown_application_is_reported_even_if_the_token_may_not_list(
    losant: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = losant.add_token((*RUNNING, "application.get"))

    is_well, message = press_test_button(
        losant, monkeypatch, password=token, extra={"application_id": NONEXISTENT_ID}
    )

    assert not is_well
    assert "404 NotFound for application.get" in message


@pytest.fixture(
    params=[
        (
            http(b"<html>Welcome</html>", kind="text/html"),
            "text/html instead of JSON: the host is not Losant",
        ),
        (
            http(b"", "302 Found", Location="https://app.example"),
            "was redirected (302): the host is not Losant",
        ),
        (
            http({"detail": "Not Found"}, "404 Not Found"),
            "notebooks.get got 404 with JSON that is not Losant's: the host is not Losant's API",
        ),
        (
            http({"detail": "Not allowed"}, "405 Method Not Allowed"),
            "notebooks.get got 405 with JSON that is not Losant's: the host is not Losant's API",
        ),
        (http({"message": "Who are you?"}, "401 Unauthorized"), "The host returned 401, but not in Losant"),
        (
            http({"hello": "world"}),
            "has an unknown shape: KeyError 'items'; check that the host is Losant's API",
        ),
        (http({"type": "Busy", "message": "later"}, "503 Service Unavailable"), "503 Busy"),
        (None, "the connection broke"),
    ],
    ids=["web page", "redirect", "other API", "not allowed", "other login", "other JSON", "busy", "silence"],
)
def stranger(request: pytest.FixtureRequest) -> Iterator[tuple[HttpStub, str]]:
    """Run a server that is not Losant, or that fails."""
    response, says = request.param
    with HttpStub(response) as server:
        yield server, says


def test_a_host_that_is_not_losant_is_reported_after_one_request(
    losant: Emulator, monkeypatch: pytest.MonkeyPatch, stranger: tuple[HttpStub, str]
) -> None:
    server, says = stranger

    is_well, message = press_test_button(losant, monkeypatch, host=server.url, extra={"max_retries": 4})

    assert not is_well
    assert says in message
    assert len(server.requests) == 1


def test_an_unreachable_host_is_reported(losant: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{closed_port()}"

    is_well, message = press_test_button(losant, monkeypatch, host=url, extra={"max_retries": 4})

    assert not is_well
    assert message.startswith(f"notebooks.get at {url}: no connection (")
    assert message.endswith("Connection refused); check that the host is Losant's API")


def test_an_untrusted_certificate_is_reported(
    losant: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    context, _ = self_signed(tmp_path)
    with HttpStub(http({}), context) as server:
        is_well, message = press_test_button(losant, monkeypatch, host=server.url)

    assert not is_well
    assert "the server's certificate was not accepted" in message
    assert message.endswith("for a private certificate authority, set verify to its CA bundle")
    assert server.requests == []
