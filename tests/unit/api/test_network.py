# SPDX-License-Identifier: Apache-2.0
"""The proxy of a URL, as the environment has it; that both clients use it is tested with them."""

from __future__ import annotations

import os

import pytest

from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.http.network import Network

PROXY = "http://user:secret@proxy.example:3128"
LOSANT = "https://api.losant.com"


@pytest.fixture(autouse=True)
def no_proxies_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def proxy_of(url: str) -> str | None:
    return Network(verify=False).route_to(url).proxy


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_the_proxy_of_a_scheme_or_of_all_is_used(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, PROXY)

    assert proxy_of(LOSANT) == PROXY


def test_the_proxy_of_the_scheme_counts_before_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "http://other.example:1")
    monkeypatch.setenv("https_proxy", PROXY)

    assert (proxy_of(LOSANT), proxy_of("http://losant")) == (PROXY, "http://other.example:1")


def test_without_a_proxy_requests_go_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "")

    assert proxy_of(LOSANT) is None


def test_a_proxy_without_a_scheme_is_an_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "proxy.example:3128")

    assert proxy_of(LOSANT) == "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        (LOSANT, "*"),
        (LOSANT, "api.losant.com"),
        (LOSANT, "API.Losant.com"),
        (LOSANT, "losant.com"),
        (LOSANT, ".losant.com"),
        (LOSANT, "other.example, losant.com"),
        (LOSANT, "api.losant.com:443"),
        ("https://127.0.0.1:8099", "127.0.0.1"),
        ("https://127.0.0.1:8099", "127.0.0.1:8099"),
        ("https://127.0.0.1:8099", "127.0.0.0/8"),
        ("https://127.0.0.1:8099", "127.0.0.1/8"),
        ("https://10.20.30.40", "example.com,10.0.0.0/8"),
        ("https://[::1]:8099", "::1"),
        ("https://[fd00::7]", "fd00::/8"),
    ],
)
def test_a_host_in_no_proxy_is_reached_directly(
    monkeypatch: pytest.MonkeyPatch, url: str, no_proxy: str
) -> None:
    monkeypatch.setenv("https_proxy", PROXY)
    monkeypatch.setenv("no_proxy", no_proxy)

    assert proxy_of(url) is None


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        (LOSANT, "api.losant.com:8443"),
        (LOSANT, "notlosant.com,sant.com"),
        (LOSANT, "10.0.0.0/8"),
        (LOSANT, "0.0.0.0/0"),
        ("https://127.0.0.1:8099", "127.0.0.1:8098"),
        ("https://127.0.0.1:8099", "10.0.0.0/8"),
        ("https://127.0.0.1:8099", "not/a/network"),
        ("https://[fd00::7]", "10.0.0.0/8"),
    ],
)
def test_a_host_that_is_not_in_no_proxy_is_reached_through_the_proxy(
    monkeypatch: pytest.MonkeyPatch, url: str, no_proxy: str
) -> None:
    monkeypatch.setenv("https_proxy", PROXY)
    monkeypatch.setenv("no_proxy", no_proxy)

    assert proxy_of(url) == PROXY


@pytest.mark.parametrize(
    ("name", "proxy", "problem"),
    [
        ("https_proxy", "socks5://user:secret@proxy:1080", "socks5 proxies are not supported"),
        ("https_proxy", "SOCKS5H://user:secret@proxy:1080", "socks5h proxies are not supported"),
        ("all_proxy", "socks4://user:secret@proxy:1080", "socks4 proxies are not supported"),
        ("https_proxy", "http://user:secret@", "is not the URL of a proxy"),
        ("https_proxy", "http://user:secret@proxy:port", "is not the URL of a proxy"),
        ("https_proxy", "http://user:secret@[::1", "is not the URL of a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, name: str, proxy: str, problem: str
) -> None:
    monkeypatch.setenv(name, proxy)

    with pytest.raises(InvalidArgument) as caught:
        proxy_of(LOSANT)

    assert str(caught.value).startswith(f"{name}: {problem}")
    assert "secret" not in str(caught.value)


def test_the_password_of_the_proxy_is_in_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", PROXY)
    network = Network(verify=False)

    assert "secret" not in repr((network, network.route_to(LOSANT)))


def test_without_tls_no_certificates_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/missing")

    assert Network(verify=True).route_to("http://127.0.0.1").tls is None
