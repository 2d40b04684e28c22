# SPDX-License-Identifier: Apache-2.0
"""The proxies and load balancers of the tests do what they say, seen by clients that are not ours."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from airflow_provider_losant.emulator import Emulator, Fault
from tests.support.http_stub import HttpStub, closed_port, http
from tests.support.network import (
    CertificateAuthority,
    LoadBalancer,
    Network,
    NetworkFault,
    NetworkKind,
    Proxy,
)
from tests.support.network.network import HOST, PASSWORD, USER
from tests.support.processes import wait_for

RESPONSE = http({"meters": 42})
GET = b"GET /path?query=1 HTTP/1.1\r\nHost: losant.test\r\n\r\n"
POST = b"POST /path HTTP/1.1\r\nHost: losant.test\r\nContent-Length: 4\r\n\r\nbody"
NETWORK_KINDS: tuple[NetworkKind, ...] = ("direct", "tls", "proxy", "tls through proxy")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def losant() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def backend() -> Iterator[HttpStub]:
    with HttpStub(RESPONSE) as stub:
        yield stub


@pytest.fixture(params=["plain", "tls"])
def balancer(
    request: pytest.FixtureRequest, backend: HttpStub, authority: CertificateAuthority
) -> Iterator[LoadBalancer]:
    tls = authority.server_context("127.0.0.1") if request.param == "tls" else None
    with LoadBalancer(("127.0.0.1", backend.port), tls) as server:
        yield server


def connect(server: LoadBalancer | Proxy, authority: CertificateAuthority | None = None) -> socket.socket:
    """Connect to a server, with TLS if its URL says so."""
    connection = socket.create_connection(server.address, timeout=10)
    if not server.url.startswith("https"):
        return connection
    assert authority is not None
    context = ssl.create_default_context(cafile=authority.bundle)
    try:
        # A reset or a missing close_notify must not look like a regular end.
        return context.wrap_socket(connection, server_hostname="127.0.0.1", suppress_ragged_eofs=False)
    except BaseException:
        connection.close()
        raise


def read_response(connection: socket.socket) -> tuple[int, bytes]:
    response = HTTPResponse(connection)
    response.begin()
    return response.status, response.read()


def read_to_end(connection: socket.socket) -> bytes:
    """Read to the end of the connection, which TLS does not have to announce."""
    received = b""
    with suppress(ssl.SSLEOFError):
        while chunk := connection.recv(65_536):
            received += chunk
    return received


def without_tls(connection: socket.socket) -> socket.socket:
    """Return the TCP connection below TLS: Python up to 3.12 reports a reset within TLS as an end."""
    below = socket.socket(fileno=connection.detach())
    below.settimeout(10)
    return below


# -- the certificate authority ----------------------------------------------------------------------------


def test_certificates_are_trusted_by_clients_with_the_bundle_only(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    other = CertificateAuthority(tmp_path)
    with HttpStub(RESPONSE, authority.server_context("127.0.0.1")) as server:
        assert requests.get(server.url, verify=str(authority.bundle), timeout=10).json() == {"meters": 42}
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(server.url, verify=str(other.bundle), timeout=10)


def test_a_certificate_is_valid_for_its_hosts_only(authority: CertificateAuthority) -> None:
    with (
        HttpStub(RESPONSE, authority.server_context("losant.test")) as server,
        pytest.raises(requests.exceptions.SSLError, match=r"127\.0\.0\.1"),
    ):
        requests.get(server.url, verify=str(authority.bundle), timeout=10)


# -- the proxy --------------------------------------------------------------------------------------------


def through(proxy: Proxy, url: str, **arguments: Any) -> requests.Response:
    proxies = {"http": proxy.url, "https": proxy.url}
    return requests.get(url, proxies=proxies, timeout=10, **arguments)


def test_a_proxy_forwards_a_request_to_a_host_that_only_it_knows(backend: HttpStub) -> None:
    with Proxy(names={"losant.test": ("127.0.0.1", backend.port)}) as proxy:
        response = through(proxy, "http://losant.test/path?query=1")

    assert response.json() == {"meters": 42}
    assert proxy.requests[0].first_line == "GET http://losant.test/path?query=1 HTTP/1.1"
    assert proxy.requests[0].get("host") == "losant.test"
    assert backend.first_lines == ["GET /path?query=1 HTTP/1.1"]
    assert backend.head("host") == ["losant.test"]


def test_a_proxy_opens_a_tunnel_for_https(authority: CertificateAuthority) -> None:
    with (
        HttpStub(RESPONSE, authority.server_context("losant.test")) as server,
        Proxy(names={"losant.test": ("127.0.0.1", server.port)}) as proxy,
    ):
        response = through(proxy, "https://losant.test/path", verify=str(authority.bundle))

    assert response.json() == {"meters": 42}
    assert [it.first_line.split()[:2] for it in proxy.requests] == [["CONNECT", "losant.test:443"]]
    assert server.first_lines == ["GET /path HTTP/1.1"]


def test_a_proxy_reaches_this_machine_but_no_other_host(backend: HttpStub) -> None:
    with Proxy() as proxy:
        assert through(proxy, backend.url).ok
        assert through(proxy, "http://example.com").status_code == 502
        assert through(proxy, f"http://127.0.0.1:{closed_port()}").status_code == 502
        with pytest.raises(requests.exceptions.ProxyError, match="502"):
            through(proxy, "https://example.com")


@pytest.mark.parametrize("user", [None, "other", USER])
def test_a_proxy_wants_its_user_and_password(backend: HttpStub, user: str | None) -> None:
    with Proxy(user=USER, password=PASSWORD) as proxy:
        url = proxy.url
        if user is None:
            url = f"http://127.0.0.1:{proxy.port}"
        elif user != USER:
            url = url.replace(USER, user)
        response = requests.get(backend.url, proxies={"http": url}, timeout=10)

    assert response.status_code == (200 if user == USER else 407)
    assert ("proxy-authenticate" in response.headers) is (user != USER)
    assert backend.head("proxy-authorization") == ([""] if user == USER else [])


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_can_refuse_everything(backend: HttpStub, status: int) -> None:
    with Proxy(refuse=status) as proxy:
        assert through(proxy, backend.url).status_code == status
        with pytest.raises(requests.exceptions.ProxyError, match=str(status)):
            through(proxy, "https://losant.test")
        proxy.refuse = None
        assert through(proxy, backend.url).ok


def test_many_requests_share_the_connections_of_a_proxy(backend: HttpStub) -> None:
    with Proxy() as proxy, requests.Session() as session:
        session.proxies = {"http": proxy.url}
        for _ in range(3):
            session.get(backend.url, timeout=10)

    assert (proxy.connections, backend.connections, len(backend.requests)) == (1, 1, 3)


def test_clients_connect_to_a_proxy_by_tls(backend: HttpStub, authority: CertificateAuthority) -> None:
    with Proxy(user=USER, tls=authority.server_context("127.0.0.1")) as proxy:
        assert proxy.url == f"https://{USER}:@127.0.0.1:{proxy.port}"
        proxy.refuse = 403
        with connect(proxy, authority) as client:
            client.sendall(b"GET http://losant.test/ HTTP/1.1\r\n\r\n")
            assert read_response(client)[0] == 403
        proxy.refuse = None
        with connect(proxy, authority) as client:
            credentials = b"Proxy-Authorization: Basic YWlyZmxvdzo=\r\n"
            client.sendall(f"CONNECT {backend.address} HTTP/1.1\r\n".encode() + credentials + b"\r\n")
            assert client.recv(65_536) == b"HTTP/1.1 200 Connection established\r\n\r\n"
            client.sendall(GET)
            assert read_response(client) == (200, b'{"meters": 42}')


# -- the load balancer ------------------------------------------------------------------------------------


def test_requests_and_responses_are_relayed(
    balancer: LoadBalancer, backend: HttpStub, authority: CertificateAuthority
) -> None:
    with connect(balancer, authority) as client:
        for request in (GET, POST, GET):
            client.sendall(request)
            assert read_response(client) == (200, b'{"meters": 42}')

    assert backend.requests == [GET, POST, GET]
    assert (balancer.connections, backend.connections) == (1, 1)
    assert [(it.method, it.target, it.body) for it in balancer.requests[:2]] == [
        ("GET", "/path?query=1", b""),
        ("POST", "/path", b"body"),
    ]
    assert balancer.requests[0].headers == {"host": "losant.test"}
    assert all(it.forwarded and it.fault is None for it in balancer.requests)


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4;a=b\r\nWiki\r\n5\r\npedia\r\n0\r\nX-End: 1\r\n\r\n"
)
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end"


@pytest.mark.parametrize(
    ("response", "close_after"),
    [
        (RESPONSE, False),
        (CHUNKED, False),
        (UNTIL_CLOSE, True),
        (b"HTTP/1.1 204 No Content\r\nServer: stub\r\n\r\n", False),
        (http(b"x" * 1_000_000), False),
        (http(b"last", Connection="close"), True),
    ],
    ids=["length", "chunked", "until close", "no content", "large", "last"],
)
def test_a_response_is_relayed_byte_for_byte(
    authority: CertificateAuthority, response: bytes, close_after: bool
) -> None:
    with (
        HttpStub(response, close_after=close_after) as backend,
        LoadBalancer(("127.0.0.1", backend.port), authority.server_context("127.0.0.1")) as balancer,
        connect(balancer, authority) as client,
    ):
        client.sendall(GET)
        received = b""
        while len(received) < len(response):
            received += client.recv(65_536)

        assert received == response
        if close_after:
            assert client.recv(1) == b""  # announced: the client would raise if it was not
        else:
            client.sendall(GET)
            assert client.recv(8) == b"HTTP/1.1"


def test_a_response_to_head_has_no_body() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 42\r\n\r\n"
    with (
        HttpStub(head) as backend,
        LoadBalancer(("127.0.0.1", backend.port)) as balancer,
        connect(balancer) as client,
    ):
        for _ in range(2):
            client.sendall(b"HEAD / HTTP/1.1\r\n\r\n")
            assert client.recv(65_536) == head


def test_a_backend_that_is_down_is_a_bad_gateway_until_it_is_up_again(backend: HttpStub) -> None:
    with LoadBalancer(("127.0.0.1", closed_port())) as balancer, connect(balancer) as client:
        client.sendall(GET)
        assert read_response(client)[0] == 502
        balancer.backend = ("127.0.0.1", backend.port)
        client.sendall(GET)
        assert read_response(client)[0] == 200

    assert [it.forwarded for it in balancer.requests] == [False, True]


def test_a_connection_that_the_backend_closed_is_not_used_again() -> None:
    with (
        HttpStub(RESPONSE, close_after=True) as backend,
        LoadBalancer(("127.0.0.1", backend.port)) as balancer,
        connect(balancer) as client,
    ):
        for _ in range(3):
            client.sendall(GET)
            assert read_response(client)[0] == 200
            wait_for(lambda: is_closed_by(backend), what="the backend to close", timeout=10, every=0.01)

    assert (balancer.connections, backend.connections) == (1, 3)


def is_closed_by(stub: HttpStub) -> bool:
    """Whether the end that a stub sent has arrived at the other side of a connection."""
    connections = psutil.Process().net_connections("tcp")
    return any(it.raddr and it.raddr.port == stub.port and it.status == "CLOSE_WAIT" for it in connections)


def test_a_reset_of_the_backend_reaches_the_client(losant: Emulator) -> None:
    notebook = losant.add_notebook()
    with Network(losant.url) as network, connect(network.balancer) as client:
        losant.inject("notebook.get", Fault("reset_before"))
        path = f"/applications/{losant.application_id}/notebooks/{notebook}"
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: losant.test\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            client.recv(1)


# -- faults of a connection -------------------------------------------------------------------------------


def test_a_connection_can_be_closed_or_reset_before_anything_else(
    balancer: LoadBalancer, authority: CertificateAuthority
) -> None:
    balancer.inject("connect", NetworkFault("close"))
    with socket.create_connection(balancer.address, timeout=10) as client:
        assert client.recv(1) == b""

    balancer.inject("connect", NetworkFault("reset"))
    with socket.create_connection(balancer.address, timeout=10) as client:
        client.sendall(b"\x16\x03\x01\x00\x01\x00")
        with pytest.raises(ConnectionResetError):
            client.recv(1)

    assert balancer.requests == []
    with connect(balancer, authority) as client:
        client.sendall(GET)
        assert read_response(client)[0] == 200


def test_a_connection_can_hang(balancer: LoadBalancer, authority: CertificateAuthority) -> None:
    balancer.inject("connect", NetworkFault("hang"))
    with socket.create_connection(balancer.address, timeout=0.2) as client:
        client.sendall(b"\x16\x03\x01\x00\x01\x00")
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert balancer.open_connections == 1
    wait_for(lambda: balancer.open_connections == 0, what="the connection to end", timeout=10, every=0.01)

    balancer.inject("connect", NetworkFault("hang", seconds=0.1))
    with socket.create_connection(balancer.address, timeout=10) as client:
        client.sendall(b"\x16\x03\x01\x00\x01\x00")
        assert client.recv(1) == b""


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("close", "EOF|UNEXPECTED"),
        ("close_handshake", "EOF|UNEXPECTED"),
        ("alert_handshake", "HANDSHAKE_FAILURE"),
        ("plain_http", "WRONG_VERSION_NUMBER|HTTP|RECORD_LAYER_FAILURE"),
    ],
)
def test_a_handshake_can_fail(
    backend: HttpStub, authority: CertificateAuthority, kind: Any, message: str
) -> None:
    tls = authority.server_context("127.0.0.1")
    with LoadBalancer(("127.0.0.1", backend.port), tls) as balancer:
        balancer.inject("connect", NetworkFault(kind), times=2)
        for _ in range(2):
            with pytest.raises(ssl.SSLError, match=message):
                connect(balancer, authority)
        with connect(balancer, authority) as client:
            client.sendall(GET)
            assert read_response(client)[0] == 200

    assert (balancer.connections, len(balancer.requests)) == (3, 1)


@pytest.mark.parametrize("kind", ["close_handshake", "alert_handshake"])
def test_without_tls_a_failed_handshake_is_a_closed_connection(backend: HttpStub, kind: Any) -> None:
    with LoadBalancer(("127.0.0.1", backend.port)) as balancer:
        balancer.inject("connect", NetworkFault(kind))
        with connect(balancer) as client:
            client.sendall(GET)
            assert client.recv(1) == b""

    assert balancer.requests == []


def test_a_handshake_in_plain_http_is_readable_text(balancer: LoadBalancer) -> None:
    balancer.inject("connect", NetworkFault("plain_http"))
    with socket.create_connection(balancer.address, timeout=10) as client:
        client.sendall(b"\x16\x03\x01\x00\x01\x00")
        assert read_to_end(client).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_handshake_can_be_slow(backend: HttpStub, authority: CertificateAuthority) -> None:
    with LoadBalancer(("127.0.0.1", backend.port), authority.server_context("127.0.0.1")) as balancer:
        balancer.inject("connect", NetworkFault("drip_handshake", seconds=0.001), times=2)
        began = time.monotonic()
        with connect(balancer, authority) as client:
            client.sendall(GET)
            assert read_response(client)[0] == 200
        assert time.monotonic() - began > 0.3  # a certificate has some hundred bytes


# -- faults of a request ----------------------------------------------------------------------------------


@pytest.mark.parametrize("processed", [False, True])
@pytest.mark.parametrize("kind", ["close", "close_in_head", "close_in_body", "html", "alert", "reset"])
def test_the_backend_processes_a_request_if_the_fault_says_so(
    balancer: LoadBalancer, backend: HttpStub, authority: CertificateAuthority, kind: Any, processed: bool
) -> None:
    fault = NetworkFault(kind, processed)
    balancer.inject("*", fault)
    with connect(balancer, authority) as client:
        client.sendall(POST)
        with suppress(OSError):
            client.recv(65_536)

    assert backend.requests == [POST] * processed
    assert [(it.forwarded, it.fault, it.body) for it in balancer.requests] == [(processed, fault, b"body")]


def test_a_response_can_be_missing(balancer: LoadBalancer, authority: CertificateAuthority) -> None:
    balancer.inject("*", NetworkFault("close"), times=2)
    for _ in range(2):
        with connect(balancer, authority) as client:
            client.sendall(GET)
            assert read_to_end(client) == b""


@pytest.mark.parametrize("announced", [False, True])
def test_tls_announces_the_end_if_the_fault_says_so(
    backend: HttpStub, authority: CertificateAuthority, announced: bool
) -> None:
    with LoadBalancer(("127.0.0.1", backend.port), authority.server_context("127.0.0.1")) as balancer:
        balancer.inject("*", NetworkFault("close", close_notify=announced))
        with connect(balancer, authority) as client:
            client.sendall(GET)
            if announced:
                assert client.recv(1) == b""
            else:
                with pytest.raises(ssl.SSLEOFError):
                    client.recv(1)


def test_a_request_can_be_reset(balancer: LoadBalancer, authority: CertificateAuthority) -> None:
    balancer.inject("*", NetworkFault("reset"))
    with connect(balancer, authority) as client:
        client.sendall(GET)
        with without_tls(client) as below, pytest.raises(ConnectionResetError):
            read_to_end(below)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_request_can_get_a_fatal_alert(
    backend: HttpStub, authority: CertificateAuthority, version: ssl.TLSVersion
) -> None:
    tls = authority.server_context("127.0.0.1")
    tls.minimum_version = tls.maximum_version = version
    with LoadBalancer(("127.0.0.1", backend.port), tls) as balancer:
        balancer.inject("*", NetworkFault("alert"))
        with connect(balancer, authority) as client:
            client.sendall(GET)
            with pytest.raises(ssl.SSLError, match="ALERT_BAD_RECORD_MAC"):
                client.recv(1)


def test_without_tls_an_alert_is_a_closed_connection(backend: HttpStub) -> None:
    with LoadBalancer(("127.0.0.1", backend.port)) as balancer, connect(balancer) as client:
        balancer.inject("*", NetworkFault("alert"))
        client.sendall(GET)
        assert client.recv(1) == b""


@pytest.mark.parametrize("status", [200, 403, 404, 502, 503, 504, 599])
def test_a_gateway_responds_with_a_page_of_its_own(
    balancer: LoadBalancer, authority: CertificateAuthority, status: int
) -> None:
    balancer.inject("*", NetworkFault("html", status=status))
    with connect(balancer, authority) as client:
        client.sendall(GET)
        got, page = read_response(client)
        client.sendall(GET)
        assert read_response(client) == (200, b'{"meters": 42}')

    assert got == status
    assert page.startswith(b"<html>")


@pytest.mark.parametrize("processed", [False, True])
def test_a_response_can_break_off(
    balancer: LoadBalancer, authority: CertificateAuthority, processed: bool
) -> None:
    received = []
    for kind in ("close_in_head", "close_in_body"):
        balancer.inject("*", NetworkFault(kind, processed))
        with connect(balancer, authority) as client:
            client.sendall(GET)
            received.append(read_to_end(client))
    head, _, body = received[1].partition(b"\r\n\r\n")

    assert received[0].startswith(b"HTTP/1.1 200 OK" if processed else b"HTTP/1.1 504 Gateway Timeout")
    assert b"\r\n\r\n" not in received[0]
    assert f"Content-Length: {len(body) * 2}".encode() in head


def test_a_connection_can_end_before_the_body_of_a_request(
    balancer: LoadBalancer, backend: HttpStub, authority: CertificateAuthority
) -> None:
    balancer.inject("*", NetworkFault("close_after_head"))
    with connect(balancer, authority) as client:
        client.sendall(b"POST /path HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n")
        with pytest.raises(OSError, match=r"reset|Broken pipe|EOF"):
            client.sendall(b"x" * 100_000_000)

    assert [it.body for it in balancer.requests] == [b""]
    assert backend.requests == []


def test_a_connection_can_end_after_a_complete_response(
    balancer: LoadBalancer, backend: HttpStub, authority: CertificateAuthority
) -> None:
    balancer.inject("*", NetworkFault("close_after_response"))
    with connect(balancer, authority) as client:
        client.sendall(GET)
        assert read_to_end(client) == RESPONSE

    assert backend.requests == [GET]


def test_a_request_can_hang(
    balancer: LoadBalancer, backend: HttpStub, authority: CertificateAuthority
) -> None:
    balancer.inject("*", NetworkFault("hang", processed=True, seconds=0.1))
    with connect(balancer, authority) as client:
        client.sendall(GET)
        began = time.monotonic()
        assert read_to_end(client) == b""
        assert time.monotonic() - began > 0.09
    assert backend.requests == [GET]

    balancer.inject("*", NetworkFault("hang"))
    with connect(balancer, authority) as client:
        client.sendall(GET)
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
    wait_for(lambda: balancer.open_connections == 0, what="the connection to end", timeout=10, every=0.01)
    assert backend.requests == [GET]


@pytest.mark.parametrize("size", [20, 700])
@pytest.mark.parametrize("kind", ["drip_head", "drip_body"])
def test_a_response_can_be_slow(
    balancer: LoadBalancer, authority: CertificateAuthority, kind: Any, size: int
) -> None:
    balancer.inject("*", NetworkFault(kind, processed=True, seconds=0.0005, size=size))
    with connect(balancer, authority) as client:
        for _ in range(2):
            client.sendall(GET)
            began = time.monotonic()
            status, body = read_response(client)
            if not balancer.requests[1:]:
                assert time.monotonic() - began >= size * 0.0004
            assert (status, body.rstrip()) == (200, b'{"meters": 42}')


def test_a_slow_response_comes_byte_by_byte(backend: HttpStub, authority: CertificateAuthority) -> None:
    with LoadBalancer(("127.0.0.1", backend.port), authority.server_context("127.0.0.1")) as balancer:
        balancer.inject("*", NetworkFault("drip_head", processed=True, seconds=0.001, size=17))
        with connect(balancer, authority) as client:
            client.sendall(GET)
            chunks = [client.recv(65_536) for _ in range(18)]  # each is a TLS record of its own

    assert [len(it) for it in chunks[:17]] == [1] * 17
    assert b"".join(chunks) == RESPONSE


@pytest.mark.parametrize("processed", [False, True])
@pytest.mark.parametrize("kind", ["drip_head", "drip_body", "continue_forever"])
def test_a_response_can_be_without_end(
    balancer: LoadBalancer, authority: CertificateAuthority, kind: Any, processed: bool
) -> None:
    balancer.inject("*", NetworkFault(kind, processed, seconds=0.0001))
    with connect(balancer, authority) as client:
        client.sendall(GET)
        received = b""
        while len(received) < 500:
            received += client.recv(65_536)
        assert balancer.open_connections == 1
    wait_for(lambda: balancer.open_connections == 0, what="the connection to end", timeout=10, every=0.01)

    head, _, body = received.partition(b"\r\n\r\n")
    status = b"200 OK" if processed else b"504 Gateway Timeout"
    if kind == "continue_forever":
        assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\n" * 20)
    elif kind == "drip_head":
        assert body == b""
        assert head.startswith(b"HTTP/1.1 " + status + b"\r\nX-Padding: xxxx")
    else:
        assert head.startswith(b"HTTP/1.1 " + status)
        assert body.startswith(b'{"meters": 42}   ' if processed else b"<html>")


def test_a_response_can_follow_interim_responses(
    balancer: LoadBalancer, authority: CertificateAuthority
) -> None:
    balancer.inject("*", NetworkFault("continue_forever", processed=True, seconds=0.001, size=3))
    with connect(balancer, authority) as client:
        client.sendall(GET)
        expected = b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + RESPONSE
        received = b""
        while len(received) < len(expected):
            received += client.recv(65_536)

    assert received == expected


# -- when a fault happens ---------------------------------------------------------------------------------


def test_a_fault_happens_so_often_and_to_its_operation_only(losant: Emulator) -> None:
    notebook = losant.add_notebook()
    with Network(losant.url) as network, requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {losant.token}"
        url = f"{network.base_url}/applications/{losant.application_id}/notebooks/{notebook}"
        network.balancer.inject("notebook.execute", NetworkFault("html"), times=2)
        network.balancer.inject("notebook.logs", NetworkFault("html", status=503))
        network.balancer.inject("notebook.cancelExecution", NetworkFault("html", status=502))
        got = session.get(url, timeout=10).status_code
        executed = [session.post(f"{url}/execute", json={}, timeout=10).status_code for _ in range(3)]
        logs = [session.get(f"{url}/logs?limit=5", timeout=10).status_code for _ in range(2)]
        cancelled = session.post(f"{url}/cancelExecution?executionId=1", timeout=10).status_code
        network.balancer.inject("*", NetworkFault("html"), times=5)
        network.balancer.clear_faults()
        cleared = session.get(url, timeout=10).status_code

    assert (got, executed, logs, cancelled, cleared) == (200, [504, 504, 200], [503, 200], 502, 200)
    assert [it.operation for it in network.balancer.requests[:2]] == ["notebook.get", "notebook.execute"]
    assert len(losant.executions(notebook)) == 1


def test_a_fault_can_last_for_a_time_from_its_first_request_on(backend: HttpStub) -> None:
    now = 100.0
    with (
        LoadBalancer(("127.0.0.1", backend.port), clock=lambda: now) as balancer,
        connect(balancer) as client,
    ):

        def status() -> int:
            client.sendall(GET)
            return read_response(client)[0]

        balancer.inject("notebook.logs", NetworkFault("html", status=502), seconds=3.0)
        balancer.inject("*", NetworkFault("html", status=503), seconds=3.0)
        now += 50
        statuses = [status()]
        now += 2.9
        statuses += [status(), status()]
        now += 0.1
        statuses += [status(), status()]

    assert statuses == [503, 503, 503, 200, 200]


def test_a_fault_can_wait_for_another_request(losant: Emulator) -> None:
    with Network(losant.url) as network, requests.Session() as session:
        balancer = network.balancer
        balancer.inject("application.get", NetworkFault("html", status=503), 2, after="notebook.get")

        def status(path: str = "") -> int:
            return session.get(f"{network.base_url}/applications/{losant.application_id}{path}").status_code

        before = status()
        notebook = status(f"/notebooks/{'0' * 24}")
        after = [status(), status(), status()]

    assert (before, notebook) == (after[-1], 403)
    assert after[:2] == [503, 503]


def test_every_request_does_not_include_connections(balancer: LoadBalancer) -> None:
    with pytest.raises(ValueError, match="cannot happen"):
        balancer.inject("*", NetworkFault("plain_http"))
    with pytest.raises(ValueError, match="cannot happen"):
        balancer.inject("connect", NetworkFault("html"))


def test_what_arrives_can_decide_about_its_own_fault(
    balancer: LoadBalancer, authority: CertificateAuthority
) -> None:
    arrived: list[str] = []

    def decide(operation: str) -> None:
        arrived.append(operation)
        if len(arrived) == 1:
            balancer.inject("connect", NetworkFault("reset"))
        if len(arrived) == 3:
            balancer.inject("*", NetworkFault("html"))

    def statuses() -> list[int]:
        with connect(balancer, authority) as client:
            found = []
            for _ in range(2):
                client.sendall(GET)
                found.append(read_response(client)[0])
        return found

    balancer.on_arrival = decide
    with pytest.raises(ConnectionError):
        statuses()

    assert statuses() == [504, 200]
    assert arrived == ["connect", "connect", "", ""]


@pytest.mark.parametrize(
    ("fault", "is_delivered"),
    [
        (NetworkFault("close_after_response"), True),
        (NetworkFault("drip_body", processed=True, size=3), True),
        (NetworkFault("drip_body", processed=True), False),
        (NetworkFault("drip_body", size=3), False),
        (NetworkFault("close_in_body", processed=True), False),
        (NetworkFault("hang", processed=True, seconds=1), False),
    ],
)
def test_a_fault_says_whether_the_response_is_delivered_all_the_same(
    fault: NetworkFault, is_delivered: bool
) -> None:
    assert fault.is_delivered is is_delivered


def test_faults_that_cannot_be_are_errors() -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        NetworkFault("earthquake")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="before a request"):
        NetworkFault("close_after_head", processed=True)


# -- the whole network ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_a_client_reaches_the_emulator_through_every_network(
    losant: Emulator, monkeypatch: pytest.MonkeyPatch, kind: NetworkKind
) -> None:
    notebook = losant.add_notebook()
    losant.clear_requests()
    with Network(losant.url, kind) as network, requests.Session() as session:
        for name, value in network.environment.items():
            monkeypatch.setenv(name, value)
        session.headers["Authorization"] = f"Bearer {losant.token}"
        url = f"{network.base_url}/applications/{losant.application_id}/notebooks/{notebook}"
        executed = session.post(f"{url}/execute", json={}, timeout=10)
        logs = session.get(f"{url}/logs", timeout=10)

    assert executed.json()["success"]
    assert [it["id"] for it in logs.json()] == [executed.json()["executionId"]]
    assert [it.operation for it in losant.requests] == ["notebook.execute", "notebook.logs"]
    assert [it.operation for it in network.balancer.requests] == ["notebook.execute", "notebook.logs"]
    assert network.balancer.connections == 1
    assert network.base_url.startswith("https" if kind.startswith("tls") else "http://")
    assert (HOST in network.base_url) is kind.endswith("proxy") is (network.proxy is not None)
    if network.proxy is not None:
        methods = {it.first_line.split()[0] for it in network.proxy.requests}
        assert methods == ({"CONNECT"} if kind.startswith("tls") else {"POST", "GET"})


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_a_fault_reaches_a_client_through_every_network(
    losant: Emulator, monkeypatch: pytest.MonkeyPatch, kind: NetworkKind
) -> None:
    notebook = losant.add_notebook()
    with Network(losant.url, kind) as network, requests.Session() as session:
        for name, value in network.environment.items():
            monkeypatch.setenv(name, value)
        session.headers["Authorization"] = f"Bearer {losant.token}"
        url = f"{network.base_url}/applications/{losant.application_id}/notebooks/{notebook}/execute"
        for fault in ("close", "reset", "alert", "close_in_body"):
            network.balancer.inject("notebook.execute", NetworkFault(fault, processed=True))
            with pytest.raises(requests.exceptions.RequestException):
                session.post(url, json={}, timeout=10)
        network.balancer.inject("notebook.execute", NetworkFault("hang"))
        with pytest.raises(requests.exceptions.ReadTimeout):
            session.post(url, json={}, timeout=0.3)

    assert len(losant.executions(notebook)) == 4


def test_nothing_is_left_of_a_network(losant: Emulator) -> None:
    def state() -> tuple[set[threading.Thread], int]:
        return set(threading.enumerate()), psutil.Process().num_fds()

    before = state()
    with Network(losant.url, "tls through proxy") as network:
        assert network.proxy is not None
        network.balancer.inject("connect", NetworkFault("hang"))
        network.balancer.inject("*", NetworkFault("hang"))
        waiting = [socket.create_connection(network.proxy.address, timeout=10) for _ in range(3)]
        waiting += [socket.create_connection(network.balancer.address, timeout=10) for _ in range(3)]
        wait_for(
            lambda: network.balancer.open_connections == 3,
            what="the connections to be accepted",
            timeout=10,
            every=0.01,
        )
    for connection in waiting:
        assert connection.recv(1) == b""
        connection.close()

    assert not network.bundle.exists()
    assert state() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(network.balancer.address, timeout=10)
