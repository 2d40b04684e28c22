# SPDX-License-Identifier: Apache-2.0
"""Both HTTP clients on real sockets: the same flow leads to the same requests, results and errors."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import (
    InvalidArgument,
    LosantError,
    NotLosantApi,
    ProtocolError,
    RateLimited,
    ServerError,
    TlsError,
    TransportError,
    Unauthorized,
)
from airflow_provider_losant.api.flows import polling
from airflow_provider_losant.api.flows.cancel import cancel
from airflow_provider_losant.api.flows.steps import Flow, Interrupted, LogLine, Sleep, Tail
from airflow_provider_losant.api.flows.wait import Target, WaitConfig
from airflow_provider_losant.api.http.async_client import SharedClient
from airflow_provider_losant.api.http.client import Client
from airflow_provider_losant.api.http.connection import POOLS
from airflow_provider_losant.api.http.network import CA_BUNDLES, OPENSSL_CA_BUNDLES, Network
from airflow_provider_losant.api.model import ExecutionRef
from airflow_provider_losant.api.payloads import encode_context, execution_options
from airflow_provider_losant.api.settings import Settings
from airflow_provider_losant.emulator import Emulator, Fault
from tests.support.client_kinds import KINDS, Driver, steps
from tests.support.factories import BRIEF
from tests.support.http_stub import HttpStub, closed_port, http, self_signed

APPLICATION = "575ec8687ae143cd83dc4a97"
NOTEBOOK = "5c782b8d4f3a8e51c1db42e4"
TOKEN = "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl"
GET = endpoints.get_notebook(APPLICATION, NOTEBOOK)
EXECUTE = endpoints.execute(APPLICATION, NOTEBOOK, {})
RESPONSE = http({"id": NOTEBOOK, "applicationId": APPLICATION, "name": "Report"})


def to(url: str, **more: Any) -> Settings:
    return Settings(**{"token": TOKEN, "base_url": url, "timeout": 5.0, "user_agent": "tests/1", **more})


def to_losant(losant: Emulator, **more: Any) -> Settings:
    return to(losant.url, token=losant.token, **more)


def failure(driver: Driver, settings: Settings, call: Any = EXECUTE) -> LosantError:
    with pytest.raises(LosantError) as caught:
        driver.call(settings, call)
    return caught.value


# -- equal behaviour of both clients ----------------------------------------------------------------------


def call_everything(losant: Emulator, notebook: str, file: Path) -> Flow[list[Any]]:
    """Call everything that the hook can call."""
    application = losant.application_id
    listed = yield endpoints.list_notebooks(application, sortField="name")
    uploaded = yield endpoints.upload_notebook(application, notebook, file)
    read = yield endpoints.get_notebook(application, notebook)
    made = yield endpoints.create_notebook(application, {"name": "Zürich ✓", "description": "Täglich"})
    options = execution_options(template_context=encode_context({"site": "Zürich"}))
    ref = yield endpoints.execute(application, notebook, options)
    config = WaitConfig(poll_interval=0.02, deadline=time.time() + 10, max_poll_outage=5.0)
    outcome = yield from polling.wait_for_execution(Target.of(ref), config, jitter=lambda low, _: low)
    cancelled = yield from cancel(ref, "it is a test")
    runs = yield endpoints.execution_logs(application, notebook, limit=1, since=ref.created_at)
    names = [sorted(it.name for it in listed.notebooks), uploaded.file_name, read.file_name, made.name]
    return [*names, outcome.ending, sorted(outcome.result["outputs"]), cancelled, len(runs)]


def test_a_flow_gives_the_same_results_and_requests_through_both_drivers(tmp_path: Path) -> None:
    file = tmp_path / "report.ipynb"
    file.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    results, seen = [], []
    for kind in KINDS:
        with Emulator(application_id=APPLICATION) as losant:
            notebook = losant.add_notebook("Report", notebook_id=NOTEBOOK)
            losant.script(notebook, BRIEF)
            results.append(Driver(kind).run(to_losant(losant), call_everything(losant, notebook, file)))
            requests = [it for it in losant.requests if it.operation != "notebook.logs"]
            polls = [it for it in losant.requests if it.operation == "notebook.logs"]
        assert all(it.authorized for it in (*requests, *polls))
        assert {it.headers["user-agent"] for it in (*requests, *polls)} == {"tests/1"}
        assert {it.headers["accept"] for it in (*requests, *polls)} == {"application/json"}
        seen.append([(it.method, it.path, set(it.query), it.body) for it in (*requests, polls[0])])

    assert results[0] == results[1]
    assert seen[0] == seen[1]
    assert results[0] == [
        ["Report"], "report.ipynb", "report.ipynb", "Zürich ✓",
        "ended", ["out.csv", "result.html"], "not_needed", 1,
    ]  # fmt: skip


def test_an_uploaded_file_arrives_whole(driver: Driver, tmp_path: Path) -> None:
    file = tmp_path / "report.ipynb"
    file.write_bytes(b'{"cells": []}' * 100)
    with HttpStub(RESPONSE) as server:
        driver.call(to(server.url), endpoints.upload_notebook(APPLICATION, NOTEBOOK, file))

    (body,) = server.requests
    assert b'name="jupyterFile"; filename="report.ipynb"' in body
    assert file.read_bytes() in body


def test_an_execute_without_options_still_has_a_json_body(driver: Driver) -> None:
    with HttpStub(http({"executionId": NOTEBOOK})) as server:
        driver.call(to(server.url), EXECUTE)

    assert server.head("content-type") == ["application/json"]
    assert json.loads(server.requests[0].partition(b"\r\n\r\n")[2]) == {}


def test_a_request_without_a_body_names_no_content_type(driver: Driver, request: Any) -> None:
    ref = ExecutionRef(application_id=APPLICATION, notebook_id=NOTEBOOK, execution_id=NOTEBOOK)
    with HttpStub(http({"success": True})) as server:
        driver.call(to(server.url), endpoints.cancel_execution(ref))

    assert server.head("content-type") == [""]


# -- the error of each fault ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("rate_limited", retry_after=7), (RateLimited, False, 0)),
        (Fault("server_error"), (ServerError, True, 0)),
        (Fault("server_error", processed=True), (ServerError, True, 1)),
        (Fault("html"), (ServerError, True, 0)),
        (Fault("html", status=200), (NotLosantApi, True, 0)),
        (Fault("html", status=404), (NotLosantApi, False, 0)),
        (Fault("truncated"), (ProtocolError, True, 1)),
        (Fault("reset_before"), (TransportError, True, 0)),
        (Fault("reset_after"), (TransportError, True, 1)),
        (Fault("hang", seconds=2), (TransportError, True, 0)),
        (Fault("hang", seconds=2, processed=True), (TransportError, True, 1)),
        (Fault("redirect"), (NotLosantApi, False, 0)),
        (Fault("unauthorized"), (Unauthorized, False, 0)),
    ],
    ids=lambda value: (
        f"{value.kind}{value.status or ''}{'-after' * value.processed}" if isinstance(value, Fault) else ""
    ),
)
def test_each_fault_raises_its_own_error(
    losant: Emulator,
    notebook: str,
    driver: Driver,
    fault: Fault,
    expected: tuple[type[LosantError], bool, int],
) -> None:
    kind, landed, runs = expected
    losant.inject("notebook.execute", fault)

    error = failure(
        driver, to_losant(losant, timeout=0.3), endpoints.execute(losant.application_id, notebook, {})
    )

    assert type(error) is kind
    assert error.may_have_taken_effect is landed
    assert error.retry_after == fault.retry_after
    assert len(losant.executions(notebook)) == runs
    assert "notebook.execute" in str(error)
    assert losant.token not in str(error)


def test_a_slow_response_is_waited_for(losant: Emulator, notebook: str, driver: Driver) -> None:
    losant.inject("notebook.get", Fault("slow", seconds=0.05))

    assert (
        driver.call(to_losant(losant), endpoints.get_notebook(losant.application_id, notebook)).id == notebook
    )


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/",
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"id": ',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{"id": ',
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!",
        b"not HTTP at all\r\n\r\n",
    ],
    ids=[
        "nothing",
        "half a line",
        "half the headers",
        "half a body",
        "half the chunks",
        "packed wrongly",
        "gibberish",
    ],
)
def test_a_broken_connection_may_have_delivered_the_submission(driver: Driver, broken: bytes) -> None:
    with HttpStub(broken, close_after=True) as server:
        error = failure(driver, to(server.url))

    assert type(error) in {TransportError, ProtocolError}
    assert error.may_have_taken_effect
    assert error.is_transient


def test_a_refused_connection_has_no_effect_at_losant(driver: Driver) -> None:
    url = f"http://127.0.0.1:{closed_port()}"

    error = failure(driver, to(url))

    assert type(error) is TransportError
    assert (error.may_have_taken_effect, error.is_transient) == (False, True)
    assert f"notebook.execute at {url}: no connection" in str(error)


def test_an_unknown_host_has_no_effect_at_losant(driver: Driver, request: pytest.FixtureRequest) -> None:

    error = failure(driver, to("http://no-such-host.invalid"))

    assert type(error) is TransportError
    assert (error.may_have_taken_effect, error.is_transient) == (False, True)
    assert "no connection" in str(error)


# -- TLS --------------------------------------------------------------------------------------------------


def test_an_untrusted_certificate_is_a_permanent_error(driver: Driver, tmp_path: Path) -> None:
    context, _ = self_signed(tmp_path)
    with HttpStub(RESPONSE, context) as server:
        error = failure(driver, to(server.url))

    assert type(error) is TlsError
    assert (error.may_have_taken_effect, error.is_transient) == (False, False)
    assert "certificate was not accepted" in str(error)
    assert server.requests == []


def test_a_private_ca_bundle_is_trusted(driver: Driver, tmp_path: Path) -> None:
    context, bundle = self_signed(tmp_path)
    with HttpStub(RESPONSE, context) as server:
        assert driver.call(to(server.url, verify=str(bundle)), GET).id == NOTEBOOK


@pytest.mark.parametrize("name", [*CA_BUNDLES, "SSL_CERT_FILE"])
def test_a_ca_bundle_of_the_environment_is_trusted_by_both_clients(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    context, bundle = self_signed(tmp_path)
    monkeypatch.setenv(name, str(bundle))
    with HttpStub(RESPONSE, context) as server:
        assert driver.call(to(server.url), GET).id == NOTEBOOK


@pytest.mark.parametrize("name", [*CA_BUNDLES, "SSL_CERT_DIR"])
def test_a_folder_of_the_environment_with_certificates_is_trusted_by_both_clients(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    context, bundle = self_signed(tmp_path)
    folder = tmp_path / "certificates"
    folder.mkdir()
    hashed = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", bundle], capture_output=True, text=True, check=True
    )
    (folder / f"{hashed.stdout.strip()}.0").write_bytes(bundle.read_bytes())
    monkeypatch.setenv(name, str(folder))
    with HttpStub(RESPONSE, context) as server:
        assert driver.call(to(server.url), GET).id == NOTEBOOK


@pytest.mark.parametrize("name", [*CA_BUNDLES, *OPENSSL_CA_BUNDLES])
def test_a_ca_bundle_of_the_environment_that_cannot_be_read_is_named(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    missing = str(tmp_path / "gone.pem")
    monkeypatch.setenv(name, missing)
    with HttpStub(RESPONSE) as server:
        assert driver.call(to(server.url), GET).id == NOTEBOOK  # no TLS, so it is not needed
        error = failure(driver, to(f"https://{server.address}"))

    assert type(error) is InvalidArgument
    assert str(error) == f"{name}: {missing!r} is not a readable CA bundle"
    assert not error.may_have_taken_effect


def test_the_certificate_authorities_of_requests_are_trusted_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (*CA_BUNDLES, *OPENSSL_CA_BUNDLES):
        monkeypatch.delenv(name, raising=False)

    route = Network(verify=True).route_to("https://api.losant.com")

    assert route.tls is not None
    assert len(route.tls.get_ca_certs()) > 50


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_any_certificate_is_accepted_when_verification_is_disabled(driver: Driver, tmp_path: Path) -> None:
    context, _ = self_signed(tmp_path)
    with HttpStub(RESPONSE, context) as server:
        assert driver.call(to(server.url, verify=False), GET).id == NOTEBOOK


def test_the_connections_ca_bundle_overrides_the_environments(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    context, bundle = self_signed(tmp_path)
    (tmp_path / "other").mkdir()
    _, other = self_signed(tmp_path / "other")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))

    with HttpStub(RESPONSE, context) as server:
        assert driver.call(to(server.url, verify=str(bundle)), GET).id == NOTEBOOK


def test_an_empty_ca_bundle_is_not_a_lost_submission(
    driver: Driver, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    context, _ = self_signed(tmp_path)
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")

    with HttpStub(RESPONSE, context) as server:
        error = failure(driver, to(server.url, verify=str(empty)))

    assert not error.may_have_taken_effect


def test_a_server_without_tls_is_not_a_lost_submission(driver: Driver) -> None:
    with HttpStub(None, greeting=http(status="400 Bad Request")) as server:
        error = failure(driver, to(f"https://{server.address}"))

    assert not error.may_have_taken_effect


# -- where the token is sent ------------------------------------------------------------------------------


def test_a_redirect_is_not_followed(driver: Driver) -> None:
    with (
        HttpStub(RESPONSE) as elsewhere,
        HttpStub(http(status="307 Temporary Redirect", Location=f"{elsewhere.url}/steal")) as server,
    ):
        error = failure(driver, to(server.url))

        assert type(error) is NotLosantApi
        assert elsewhere.connections == 0


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login user password else\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))


def test_a_netrc_entry_does_not_replace_the_token(driver: Driver, netrc: None) -> None:
    with HttpStub(RESPONSE) as server:
        driver.call(to(server.url), GET)

    assert server.head("authorization") == [f"Bearer {TOKEN}"]


def test_the_host_of_a_file_gets_neither_the_token_nor_a_netrc_entry(driver: Driver, netrc: None) -> None:
    with HttpStub(http(b"the end", kind="text/plain")) as storage:
        assert driver.run(to("http://127.0.0.1:9"), steps(Tail(f"{storage.url}/log"))) == "the end"

    assert storage.head("authorization") == [""]
    assert TOKEN.encode() not in b"".join(storage.requests)


def test_a_signature_arrives_as_it_was_signed(driver: Driver) -> None:
    path = "/a%20b/result.error.log?X-Amz-Credential=AK%2F2026%2Fus&X-Amz-Signature=ab%2Bcd%3D&x=a+b~c/d:e"
    with HttpStub(http(b"the end", kind="text/plain")) as storage:
        driver.run(to("http://127.0.0.1:9"), steps(Tail(storage.url + path)))

    assert storage.first_lines == [f"GET {path} HTTP/1.1"]


def test_only_the_end_of_a_file_is_requested_and_kept(driver: Driver) -> None:
    with HttpStub(http(b"x" * 50 + b"the end", kind="text/plain")) as storage:
        assert driver.run(to("http://127.0.0.1:9"), steps(Tail(f"{storage.url}/log", limit=7))) == "the end"

    assert storage.head("range") == ["bytes=-7"]


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "500 Oops"])
def test_a_refused_file_is_an_error_without_its_url(driver: Driver, status: str) -> None:
    with HttpStub(http(b"expired", status=status)) as storage, pytest.raises(LosantError) as caught:
        driver.run(to("http://127.0.0.1:9"), steps(Tail(f"{storage.url}/log?signature=secret")))

    assert str(caught.value) == f"the file host returned {status[:3]}"
    assert caught.value.is_transient


def test_the_end_of_an_empty_file_is_empty_also_if_the_host_refuses_the_range(driver: Driver) -> None:
    with HttpStub(http(b"<Error/>", status="416 Range Not Satisfiable")) as storage:
        assert driver.run(to("http://127.0.0.1:9"), steps(Tail(f"{storage.url}/log"))) == ""


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/log?signature=secret", "nonsense?signature=secret"])
def test_an_unreachable_file_host_is_an_error_without_the_url(driver: Driver, url: str) -> None:
    with pytest.raises(TransportError, match="the file host did not respond") as caught:
        driver.run(to("http://127.0.0.1:9"), steps(Tail(url.format(port=closed_port()))))

    assert "secret" not in str(caught.value)


def test_the_signature_of_a_url_is_in_no_debug_log(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with HttpStub(http(b"boom")) as storage:
        driver.run(to("http://127.0.0.1:9"), steps(Tail(f"{storage.url}/log?signature=secret")))

    assert "signature" not in caplog.text


def test_the_error_log_can_be_read_from_the_emulators_storage(losant: Emulator, driver: Driver) -> None:
    from airflow_provider_losant.emulator import Script

    notebook = losant.add_notebook("Report")
    failing = Script(notebook=0.01, ending="errored", files={"result.error.log": b"ValueError: boom"})
    losant.script(notebook, failing)

    def run() -> Flow[Any]:
        ref = yield endpoints.execute(losant.application_id, notebook, {})
        config = WaitConfig(poll_interval=0.02, deadline=time.time() + 10, max_poll_outage=5.0)
        return (yield from polling.wait_for_execution(Target.of(ref), config))

    assert driver.run(to_losant(losant), run()).error_log == "ValueError: boom"


@pytest.mark.parametrize(
    "fault",
    ["reset_after", "hang", "truncated", "html", "redirect", "unauthorized", "server_error", "rate_limited"],
)
def test_the_token_is_in_no_log_and_no_traceback(
    losant: Emulator, notebook: str, driver: Driver, fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    losant.inject("*", Fault(fault, seconds=1), times=2)

    error = failure(
        driver, to_losant(losant, timeout=0.2), endpoints.execute(losant.application_id, notebook, {})
    )

    logged = "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))
    assert losant.token not in logged + caplog.text + "".join(driver.log_lines)


def test_the_token_is_in_no_repr() -> None:
    settings = to("http://127.0.0.1:9")
    client = Client(settings, print)

    assert TOKEN not in repr(client) + repr(client.session) + repr(settings) + repr(client.session.auth)


# -- a rotated token --------------------------------------------------------------------------------------


def test_a_rotated_token_is_reloaded_once(losant: Emulator, notebook: str, driver: Driver) -> None:
    asked: list[int] = []

    def refresh() -> Settings:
        asked.append(1)
        return to_losant(losant)

    get = endpoints.get_notebook(losant.application_id, notebook)
    read = driver.run(to(losant.url, token="old"), steps(get, get), refresh)

    assert read.id == notebook
    assert len(asked) == 1
    assert [it.status for it in losant.requests] == [401, 200, 200]


def test_parallel_requests_with_a_rotated_token_reload_the_connection_once(
    losant: Emulator, notebook: str
) -> None:
    asked: list[int] = []

    async def refresh() -> Settings:
        asked.append(1)
        return to_losant(losant)

    async def main() -> list[Any]:
        get = endpoints.get_notebook(losant.application_id, notebook)
        async with SharedClient(to(losant.url, token="old"), refresh) as client:
            return await asyncio.gather(*(client.run(steps(get), logging.log) for _ in range(10)))

    assert [it.id for it in asyncio.run(main())] == [notebook] * 10
    assert len(asked) == 1


@pytest.mark.parametrize(("refreshed", "requests"), [("old", 1), ("just as wrong", 2)])
def test_a_token_that_is_still_wrong_after_reloading_is_an_error(
    losant: Emulator, notebook: str, driver: Driver, refreshed: str, requests: int
) -> None:
    with pytest.raises(Unauthorized, match="token is wrong, expired or revoked"):
        driver.call(
            to(losant.url, token="old"),
            endpoints.get_notebook(losant.application_id, notebook),
            lambda: to(losant.url, token=refreshed),
        )

    assert len(losant.requests) == requests


def test_a_submission_refused_for_its_token_is_sent_again_with_the_new_one(
    losant: Emulator, notebook: str, driver: Driver
) -> None:
    execute = endpoints.execute(losant.application_id, notebook, {})

    driver.call(to(losant.url, token="old"), execute, lambda: to_losant(losant))

    assert len(losant.executions(notebook)) == 1


# -- proxies ----------------------------------------------------------------------------------------------


def test_a_proxy_of_the_environment_is_used(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    with HttpStub(RESPONSE) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        driver.call(to("http://losant.invalid"), GET)

    assert proxy.first_lines[0].startswith(f"GET http://losant.invalid/applications/{APPLICATION}")


def test_a_proxy_without_a_scheme_is_used_too(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    with HttpStub(RESPONSE) as proxy:
        monkeypatch.setenv("http_proxy", proxy.address)
        driver.call(to("http://losant.invalid"), GET)

    assert proxy.connections == 1


@pytest.mark.parametrize("bypass", ["127.0.0.1", "*", "other.example,127.0.0.1"])
def test_a_host_in_no_proxy_is_reached_directly(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, bypass: str
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("no_proxy", bypass)
    with HttpStub(RESPONSE) as server:
        assert driver.call(to(server.url), GET).id == NOTEBOOK


@pytest.mark.parametrize("base", ["http://losant.invalid", "https://losant.invalid"])
def test_an_unreachable_proxy_has_no_effect_at_losant(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")

    error = failure(driver, to(base))

    assert type(error) is TransportError
    assert not error.may_have_taken_effect


def test_a_proxy_that_refuses_the_tunnel_has_no_effect_at_losant(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    with HttpStub(http(status="407 Proxy Authentication Required")) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        error = failure(driver, to("https://losant.invalid"))

    assert proxy.first_lines[0].startswith("CONNECT losant.invalid:443")
    assert not error.may_have_taken_effect
    assert TOKEN.encode() not in b"".join(proxy.requests)


# -- connections ------------------------------------------------------------------------------------------


def test_many_calls_share_one_connection(driver: Driver) -> None:
    with HttpStub(RESPONSE) as server:
        driver.run(to(server.url), steps(*[GET] * 10))

    assert (len(server.requests), server.connections) == (10, 1)


def test_many_calls_share_one_encrypted_connection(driver: Driver, tmp_path: Path, request: Any) -> None:
    context, bundle = self_signed(tmp_path)
    with HttpStub(RESPONSE, context) as server:
        driver.run(to(server.url, verify=str(bundle)), steps(*[GET] * 5))

    assert (len(server.requests), server.connections) == (5, 1)


def test_a_pool_keeps_no_more_idle_connections_than_its_size() -> None:
    with HttpStub(RESPONSE) as server, POOLS["http"]("127.0.0.1", server.port, maxsize=1) as pool:
        for _ in range(2):
            for it in [pool.urlopen("GET", "/", preload_content=False) for _ in range(2)]:
                it.drain_conn()
                it.release_conn()

    assert (len(server.requests), server.connections) == (4, 3)


# -- halting (workers only) -------------------------------------------------------------------------------


def test_a_halted_client_sends_nothing() -> None:
    with HttpStub(RESPONSE) as server:
        client = Client(to(server.url), print)
        client.is_interrupted = lambda: True
        with pytest.raises(Interrupted):
            client.run(steps(GET))

    assert server.connections == 0


def test_a_halt_ends_a_sleep_soon() -> None:
    client = Client(to("http://127.0.0.1:9"), print)
    timer = threading.Timer(0.03, lambda: setattr(client, "is_interrupted", lambda: True))
    timer.start()
    began = time.monotonic()

    with pytest.raises(Interrupted):
        client.run(steps(Sleep(30.0), GET))

    assert time.monotonic() - began < 1.5
    timer.join()


def test_log_lines_before_a_halt_are_written_and_none_after() -> None:
    logged: list[str] = []
    with HttpStub(http({"executionId": NOTEBOOK})) as server:
        client = Client(to(server.url), lambda _, text, *args: logged.append(text % args))

        def flow() -> Flow[None]:
            yield EXECUTE
            client.is_interrupted = lambda: True
            yield LogLine("the run has an id")
            yield GET

        with pytest.raises(Interrupted):
            client.run(flow())

    assert logged == ["the run has an id"]
    assert len(server.requests) == 1


def test_a_halt_during_the_last_response_loses_no_result() -> None:
    with HttpStub(RESPONSE) as server:
        client = Client(to(server.url), print)

        def flow() -> Flow[str]:
            read = yield GET
            client.is_interrupted = lambda: True
            return str(read.id)

        assert client.run(flow()) == NOTEBOOK


def test_settings_can_be_changed_for_one_client_alone() -> None:
    settings = to("http://127.0.0.1:9")

    assert replace(settings, timeout=1.0).token == settings.token
