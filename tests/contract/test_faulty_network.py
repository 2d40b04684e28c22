# SPDX-License-Identifier: Apache-2.0
"""What lies between the provider and Losant: proxies, slow hosts, and a connection that cannot be read."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from io import BytesIO
from typing import Any
from urllib.request import proxy_bypass

import pytest

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import (
    Forbidden,
    InvalidArgument,
    LosantError,
    TransportError,
    Unauthorized,
)
from airflow_provider_losant.api.flows.steps import Fetch, Tail
from airflow_provider_losant.api.flows.wait import is_worth_retrying
from airflow_provider_losant.api.http.async_client import MAX_CONCURRENCY, SharedClient
from airflow_provider_losant.api.model import ExecutionRef
from airflow_provider_losant.emulator import Emulator, Fault
from tests.contract.test_clients import APPLICATION, EXECUTE, GET, NOTEBOOK, RESPONSE, TOKEN, failure, to
from tests.support.client_kinds import Driver, steps
from tests.support.http_stub import HttpStub, closed_port, http
from tests.support.processes import wait_for

PASSWORD = "p%40ss-word"
"""Encoded, as in a URL; the password is ``p@ss-word``."""
SPELLINGS = (PASSWORD, "p@ss-word", "dXNlcjpwQHNzLXdvcmQ=")


# -- proxies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["http://losant.invalid", "https://losant.invalid"])
@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "403 Forbidden", "502 Bad Gateway"])
def test_a_proxy_that_refuses_is_an_error_without_its_password(
    driver: Driver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    base: str,
    status: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    with HttpStub(http(b"<html>no</html>", status=status, kind="text/html")) as proxy:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://user:{PASSWORD}@{proxy.address}")
        error = failure(driver, to(base))

    assert status[:3] in str(error)
    assert proxy.head("proxy-authorization") == [f"Basic {SPELLINGS[-1]}"]
    written = "".join([*traceback.format_exception(error), repr(error), caplog.text, *driver.log_lines])
    assert not [it for it in SPELLINGS if it in written]
    assert TOKEN not in written


@pytest.mark.parametrize("base", ["http://losant.invalid", "https://losant.invalid"])
def test_a_proxy_that_wants_another_password_has_no_effect_at_losant(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    with HttpStub(http(b"<html>who?</html>", status="407 Unknown", kind="text/html")) as proxy:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://user:{PASSWORD}@{proxy.address}")
        error = failure(driver, to(base))

    assert type(error) is TransportError
    assert "the proxy returned 407" in str(error)
    assert (error.is_transient, error.may_have_taken_effect) == (True, False)


@pytest.mark.parametrize(
    "proxy", ["http://user:{0}@[bad", "http://user:{0}@proxy:port", "socks5://user:{0}@x"]
)
def test_an_unusable_proxy_is_the_same_permanent_error_in_both_clients(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("https_proxy", proxy.format(PASSWORD))

    error = failure(driver, to("https://losant.invalid"))
    with pytest.raises(InvalidArgument):
        driver.run(to("http://127.0.0.1:9"), steps(Tail("https://files.invalid/log?signature=secret")))

    assert type(error) is InvalidArgument
    assert str(error).startswith("https_proxy: ")
    assert not [it for it in SPELLINGS if it in str(error)]


@pytest.mark.parametrize("no_proxy", ["127.0.0.0/8", "127.0.0.1:{port}", "127.0.0.1"])
def test_both_clients_understand_no_proxy_alike(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    with HttpStub(RESPONSE) as server:
        monkeypatch.setenv("no_proxy", no_proxy.format(port=server.port))
        assert driver.call(to(server.url), GET).id == NOTEBOOK


def test_the_target_of_a_redirect_is_reached_as_its_own_host(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        HttpStub(http(b"the end", kind="text/plain")) as storage,
        HttpStub(http(status="302 Found", Location=f"{storage.url}/moved")) as proxy,
    ):
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        read = driver.run(to("http://127.0.0.1:9"), steps(Tail("http://files.invalid/log?signature=secret")))

    assert read == "the end"
    assert proxy.first_lines == ["GET http://files.invalid/log?signature=secret HTTP/1.1"]
    assert storage.first_lines == ["GET /moved HTTP/1.1"]


def test_the_proxy_is_decided_once_for_all_requests_of_a_session(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided: list[str] = []
    with HttpStub(RESPONSE) as server:
        from airflow_provider_losant.api.http import network

        def counting(host: str) -> Any:
            decided.append(host)
            return proxy_bypass(host)

        monkeypatch.setenv("http_proxy", server.url)
        monkeypatch.setattr(network, "proxy_bypass", counting)
        driver.run(to("http://losant.invalid"), steps(*[GET] * 10))

    assert decided == ["losant.invalid:80"]


# -- slow hosts -------------------------------------------------------------------------------------------


def dripped(head: bytes, stop: Callable[[], bool]) -> Iterator[bytes]:
    """Send a byte of the head at a time, more slowly than it can be complete in time."""
    for byte in head:
        if stop():
            return
        time.sleep(0.05)
        yield bytes([byte])


def informed(stop: Callable[[], bool], pause: float, times: int) -> Iterator[bytes]:
    """Send informational responses, some at a time, until it is stopped."""
    while not stop():
        time.sleep(pause)
        yield b"HTTP/1.1 100 Continue\r\n\r\n" * times


ENDLESS_HEADS: dict[str, Callable[[Callable[[], bool]], Iterator[bytes]]] = {
    "a byte at a time": lambda stop: dripped(b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 400, stop),
    "100 Continue for ever": lambda stop: informed(stop, 0.05, 1),
    "100 Continue as fast as possible": lambda stop: informed(stop, 0.0, 1000),
}


@pytest.mark.parametrize("kind", ENDLESS_HEADS)
@pytest.mark.parametrize("way", ["directly", "through a proxy", "tunnel", "end of a file"])
def test_the_head_of_a_response_has_to_come_within_the_timeout(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, kind: str, way: str
) -> None:
    until = time.monotonic() + 10
    with HttpStub(lambda _: ENDLESS_HEADS[kind](lambda: time.monotonic() > until)) as server:
        if way in {"through a proxy", "tunnel"}:
            monkeypatch.setenv("http_proxy", server.url)
            monkeypatch.setenv("https_proxy", server.url)
        base = {"directly": server.url, "through a proxy": "http://losant.invalid"}
        step: Any = Tail(server.url) if way == "end of a file" else EXECUTE
        began = time.monotonic()
        error = failure(driver, to(base.get(way, "https://losant.invalid"), timeout=0.5), step)
        seconds = time.monotonic() - began

    assert type(error) is TransportError
    assert seconds < 5
    assert error.is_transient
    if way in base:
        assert error.may_have_taken_effect
    if way == "tunnel":
        assert not error.may_have_taken_effect


@pytest.mark.parametrize("kind", ENDLESS_HEADS)
def test_the_head_of_a_downloaded_file_has_to_come_within_the_timeout(kind: str) -> None:
    until = time.monotonic() + 10
    with HttpStub(lambda _: ENDLESS_HEADS[kind](lambda: time.monotonic() > until)) as server:
        fetch = Fetch(url=server.url, open_sink=lambda: nullcontext(BytesIO()))
        began = time.monotonic()
        error = failure(Driver("requests"), to("http://127.0.0.1:9", timeout=0.5), fetch)

    assert str(error) == "the file host did not respond (timed out)"
    assert time.monotonic() - began < 5


def test_a_response_after_100_continue_is_read(driver: Driver) -> None:
    with HttpStub(b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + RESPONSE) as server:
        assert driver.run(to(server.url), steps(GET, GET)).id == NOTEBOOK


CUT_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Le"


def test_half_a_head_of_a_file_is_an_error_and_no_empty_file(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with HttpStub(CUT_HEAD, close_after=True) as server:
        error = failure(driver, to("http://127.0.0.1:9"), Tail(f"{server.url}/log?signature=secret"))
        if driver.kind == "requests":
            fetch = Fetch(url=f"{server.url}/x?signature=secret", open_sink=lambda: nullcontext(BytesIO()))
            failure(driver, to("http://127.0.0.1:9"), fetch)

    assert type(error) is TransportError
    assert error.is_transient
    assert "secret" not in caplog.text


@pytest.mark.parametrize("header", [b"no colon at all", b": no name", b"X-Odd: \xff\xfe"])
def test_an_odd_header_of_a_file_host_puts_no_signature_into_a_log(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, header: bytes
) -> None:
    caplog.set_level(logging.DEBUG)
    response = b"HTTP/1.1 200 OK\r\n" + header + b"\r\nContent-Length: 7\r\n\r\nthe end"
    with HttpStub(response) as server, suppress(LosantError):
        driver.run(to("http://127.0.0.1:9"), steps(Tail(f"{server.url}/log?signature=secret")))
    with HttpStub(response) as proxy, suppress(LosantError):
        monkeypatch.setenv("http_proxy", proxy.url)
        driver.run(to("http://127.0.0.1:9"), steps(Tail("http://files.invalid/log?signature=secret")))

    assert "secret" not in caplog.text


# -- capacity ---------------------------------------------------------------------------------------------


def test_cancels_do_not_wait_for_polls_that_hang(losant: Emulator) -> None:
    notebooks = [losant.add_notebook(f"Report {number}") for number in range(2 * MAX_CONCURRENCY)]
    losant.inject("notebook.logs", Fault("hang", seconds=20), times=len(notebooks))
    application = losant.application_id

    def polls_hang() -> bool:
        return len([it for it in losant.requests if it.operation == "notebook.logs"]) == MAX_CONCURRENCY

    async def main() -> float:
        async with SharedClient(to(losant.url, token=losant.token, timeout=30.0)) as client:
            polls = [
                asyncio.ensure_future(client.run(steps(call), logging.log))
                for call in (endpoints.execution_logs(application, it, limit=1, since=0) for it in notebooks)
            ]
            await asyncio.to_thread(wait_for, polls_hang, what="polls in all slots", timeout=30)
            began = time.monotonic()
            await asyncio.gather(*(cancel(client, it) for it in notebooks))
            seconds = time.monotonic() - began
            for poll in polls:
                poll.cancel()
            await asyncio.wait(polls)
            return seconds

    async def cancel(client: Any, notebook: str) -> None:
        ref = ExecutionRef(application_id=application, notebook_id=notebook, execution_id=NOTEBOOK)
        with suppress(LosantError):  # there is no such execution
            await client.run(steps(endpoints.cancel_execution(ref)), logging.log)

    assert asyncio.run(main()) < 10
    assert len([it for it in losant.requests if it.operation == "notebook.cancelExecution"]) == len(notebooks)


# -- a refused token --------------------------------------------------------------------------------------


class SecretsBackendDown(Exception):
    """What a secrets backend may raise, with something that must not be logged."""


def unreadable() -> Any:
    raise SecretsBackendDown("vault token hvs.secret")


FORBIDDEN = http({"type": "Forbidden", "message": "Access is forbidden"}, status="403 Forbidden")
UNAUTHORIZED = http({"type": "Unauthorized", "message": "Invalid access token"}, status="401 Unauthorized")
REFUSALS = pytest.mark.parametrize(
    ("refusal", "expected"),
    [(UNAUTHORIZED, Unauthorized), (FORBIDDEN, Forbidden)],
    ids=["401", "403"],
)


@REFUSALS
def test_a_refusal_stands_while_the_connection_cannot_be_read_again(
    driver: Driver, refusal: bytes, expected: type[LosantError]
) -> None:
    with HttpStub(refusal) as server, pytest.raises(expected) as caught:
        driver.call(to(server.url), GET, unreadable)

    assert is_worth_retrying(caught.value)  # there may be another token
    assert driver.log_lines == [
        "The connection could not be read again after Losant had refused the token (SecretsBackendDown)"
    ]


@REFUSALS
def test_after_the_connection_could_not_be_read_the_next_request_reads_it_again(
    driver: Driver, refusal: bytes, expected: type[LosantError]
) -> None:
    def poll_twice() -> Any:
        with pytest.raises(expected):
            yield GET
        return (yield GET)

    def respond(request: bytes) -> bytes:
        return RESPONSE if b"Bearer new" in request else refusal

    with HttpStub(respond) as server:
        readings: Iterator[Callable[[], Any]] = iter([unreadable, lambda: to(server.url, token="new")])
        read = driver.run(to(server.url), poll_twice(), lambda: next(readings)())  # noqa: PLW0108 - a new one each time

    assert read.id == NOTEBOOK
    assert len(server.requests) == 3


def test_parallel_requests_that_are_refused_read_a_connection_that_cannot_be_read_once() -> None:
    readings: list[int] = []

    async def refresh() -> Any:
        readings.append(1)
        await asyncio.sleep(0.5)
        return unreadable()

    async def main(url: str) -> list[Any]:
        async with SharedClient(to(url), refresh) as client:
            calls = (client.run(steps(GET), logging.log) for _ in range(20))
            return await asyncio.gather(*calls, return_exceptions=True)

    with HttpStub(UNAUTHORIZED) as server:
        errors = asyncio.run(main(server.url))

    assert {type(it) for it in errors} == {Unauthorized}
    assert all(it.is_transient for it in errors)
    assert len(readings) == 1


@REFUSALS
@pytest.mark.parametrize(("refreshed", "requests"), [(TOKEN, 1), ("another", 2)])
def test_a_refusal_of_the_current_token_stands(
    driver: Driver, refusal: bytes, expected: type[LosantError], refreshed: str, requests: int
) -> None:
    with HttpStub(refusal) as server, pytest.raises(expected) as caught:
        driver.call(to(server.url), GET, lambda: to(server.url, token=refreshed))

    assert len(server.requests) == requests
    assert not caught.value.is_transient


def test_a_revoked_token_that_is_answered_with_403_is_reloaded_once(driver: Driver) -> None:
    def respond(request: bytes) -> bytes:
        return RESPONSE if b"Bearer new" in request else FORBIDDEN

    with HttpStub(respond) as server:
        settings = to(server.url)
        read = driver.run(settings, steps(GET, GET), lambda: to(server.url, token="new"))

    assert read.id == NOTEBOOK
    assert len(server.requests) == 3
    assert APPLICATION.encode() in server.requests[0]
