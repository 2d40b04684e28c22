# SPDX-License-Identifier: Apache-2.0
"""Hosts that send too much, never end or redirect: both clients stop within bounds of memory and time."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.api.errors import (
    FileAccessDenied,
    LosantError,
    OutputError,
    ResponseTooLarge,
    TransportError,
)
from airflow_provider_losant.api.flows.steps import Fetch, Tail
from airflow_provider_losant.api.http import decoding
from airflow_provider_losant.api.http.client import Client
from airflow_provider_losant.api.settings import Settings
from tests.support.client_kinds import Driver, steps
from tests.support.http_stub import HttpStub, closed_port, http

ID = "5c782b8d4f3a8e51c1db42e4"
GET = endpoints.get_notebook(ID, ID)
NOWHERE = "http://127.0.0.1:9"


def to(url: str, timeout: float = 5.0) -> Settings:
    return Settings(token="secret-token", base_url=url, timeout=timeout)


def failure(driver: Driver, settings: Settings, step: Any = GET) -> LosantError:
    with pytest.raises(LosantError) as caught:
        driver.run(settings, steps(step))
    return caught.value


def packed(size: int) -> bytes:
    """Compress this many zero bytes."""
    packer = zlib.compressobj(wbits=31)
    return b"".join(packer.compress(bytes(1024**2)) for _ in range(size // 1024**2)) + packer.flush()


def drip(pause: float, times: int) -> Callable[[bytes], Iterator[bytes]]:
    """Send a response byte by byte, with a pause before each."""

    def response(_: bytes) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
        for _number in range(times):
            time.sleep(pause)
            yield b" "

    return response


# -- Losant's API -----------------------------------------------------------------------------------------


def test_a_gzip_bomb_is_aborted(driver: Driver) -> None:
    bomb = packed(128 * 1024**2)
    assert len(bomb) < 200_000
    with HttpStub(http(bomb, Content_Encoding="gzip")) as server:
        error = failure(driver, to(server.url))

    assert type(error) is ResponseTooLarge
    assert str(error) == f"the response to notebook.get has more than {decoding.MAX_BODY:,} bytes"


def test_an_endless_response_is_aborted(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_BODY", 1_000_000)
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + b" " * 3_000_000
    with HttpStub(endless) as server:
        error = failure(driver, to(server.url))

    assert type(error) is ResponseTooLarge


def test_a_slow_response_must_be_complete_within_the_timeout(driver: Driver) -> None:
    with HttpStub(drip(0.05, 400)) as server:
        began = time.monotonic()
        error = failure(driver, to(server.url, timeout=0.2))

    assert time.monotonic() - began < 10
    assert type(error) is TransportError
    assert "no response in time" in str(error)
    assert error.may_have_taken_effect


def test_the_body_of_a_redirect_is_not_read(driver: Driver) -> None:
    moved = http(packed(1024**2), status="302 Found", Location=f"{NOWHERE}/", Content_Encoding="gzip")
    with HttpStub(moved) as server:
        error = failure(driver, to(server.url))

    assert "was redirected (302)" in str(error)


@pytest.mark.parametrize("host", ["a" * 64 + ".invalid", "a..invalid"])
def test_an_impossible_host_name_is_a_losant_error(driver: Driver, host: str) -> None:
    error = failure(driver, to(f"https://{host}"))

    assert type(error) is TransportError
    assert not error.may_have_taken_effect


# -- files ------------------------------------------------------------------------------------------------


def fetch(url: str, limit: int | None = None, timeout: float = 5.0) -> bytes:
    got = BytesIO()
    client = Client(to(NOWHERE, timeout), lambda *_: None)
    client.run(steps(Fetch(url=url, open_sink=lambda: nullcontext(got), limit=limit)))
    return got.getvalue()


def test_a_file_that_decompresses_to_more_than_the_limit_is_aborted() -> None:
    with (
        HttpStub(http(packed(64 * 1024**2), Content_Encoding="gzip")) as storage,
        pytest.raises(OutputError, match="more than 1,000 bytes"),
    ):
        fetch(f"{storage.url}/out.csv", limit=1_000)


def test_the_end_of_a_huge_compressed_log_is_read_in_little_memory(driver: Driver) -> None:
    with HttpStub(http(packed(64 * 1024**2), Content_Encoding="gzip")) as storage:
        assert driver.run(to(NOWHERE), steps(Tail(f"{storage.url}/log", limit=10))) == "\0" * 10


def test_a_compressed_log_is_decompressed(driver: Driver) -> None:
    with HttpStub(http(gzip.compress(b"boom"), Content_Encoding="gzip")) as storage:
        assert driver.run(to(NOWHERE), steps(Tail(f"{storage.url}/log"))) == "boom"

    assert storage.head("accept-encoding") == ["identity"]


def test_a_redirect_of_a_file_is_followed(driver: Driver) -> None:
    with (
        HttpStub(http(b"content")) as there,
        HttpStub(http(status="307 Moved", Location=f"{there.url}/x?signature=s%2Bx")) as storage,
    ):
        assert fetch(f"{storage.url}/out.csv") == b"content"
        assert driver.run(to(NOWHERE), steps(Tail(f"{storage.url}/log"))) == "content"

    assert there.first_lines == ["GET /x?signature=s%2Bx HTTP/1.1"] * 2


def test_the_target_of_a_file_redirect_gets_no_credentials_and_is_not_logged(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "netrc").write_text("machine localhost login user password else\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    caplog.set_level("DEBUG")
    with HttpStub(http(b"content")) as there:
        elsewhere = f"http://localhost:{there.port}/x?signature=secret"
        with HttpStub(http(status="302 Found", Location=elsewhere)) as storage:
            driver.run(to(NOWHERE), steps(Tail(f"{storage.url}/log?signature=secret")))

    assert there.head("authorization") == [""]
    assert "signature" not in caplog.text


def test_a_redirect_loop_of_a_file_is_aborted(driver: Driver) -> None:
    with HttpStub(lambda _: http(status="302 Found", Location="/round?signature=secret")) as storage:
        error = failure(driver, to(NOWHERE), Tail(f"{storage.url}/log"))

    assert type(error) is TransportError
    assert "signature" not in str(error)
    assert len(storage.requests) <= 11


@pytest.mark.parametrize(
    "address",
    [
        "http://[nonsense",
        "ftp://127.0.0.1/x",
        "file:///etc/hostname",
        "http://" + "a" * 64 + ".invalid/x",
        "",
    ],
)
def test_an_invalid_url_is_a_losant_error(driver: Driver, address: str) -> None:
    for step in (
        Tail(f"{address}?signature=secret"),
        Fetch(url=f"{address}?signature=secret", open_sink=lambda: nullcontext(BytesIO())),
    ):
        if isinstance(step, Fetch) and driver.kind == "aiohttp":
            continue
        error = failure(driver, to(NOWHERE), step)
        assert type(error) is TransportError
        assert "secret" not in str(error)


def test_a_redirect_to_an_invalid_url_is_refused(driver: Driver) -> None:
    with HttpStub(http(status="304 Not Modified")) as storage:
        with pytest.raises(FileAccessDenied, match="returned 304"):
            fetch(f"{storage.url}/out.csv")
        error = failure(driver, to(NOWHERE), Tail(f"{storage.url}/log"))

    assert str(error) == "the file host returned 304"


def test_a_redirect_to_an_unreachable_host_is_a_transient_error(driver: Driver) -> None:
    with HttpStub(
        http(status="302 Found", Location=f"http://127.0.0.1:{closed_port()}/x?s=secret")
    ) as storage:
        error = failure(driver, to(NOWHERE), Tail(f"{storage.url}/log"))

    assert error.is_transient
    assert "secret" not in str(error)
