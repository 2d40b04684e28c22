# SPDX-License-Identifier: Apache-2.0
"""
Which proxy and which certificate authorities requests use: decided here, once per session, for both clients.

``requests`` and ``aiohttp`` read different variables of the environment, and understand ``no_proxy``
differently.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

from airflow_provider_losant.api.errors import InvalidArgument

CA_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Environment variables that may name a CA bundle (a file or a folder); the first that is set counts."""
OPENSSL_CA_BUNDLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""OpenSSL's variables, which count together, where none of the others is set."""
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Route:
    """
    How requests reach a host.

    :param proxy: The URL of the proxy, which may contain its password; None if they go directly.
    :param tls: The TLS context; None if neither the host nor the proxy needs one.
    """

    proxy: str | None = field(repr=False)
    tls: ssl.SSLContext | None


class Network:
    """
    The proxies and the certificate authorities of one session.

    :param verify: The connection's ``verify``: whether to verify certificates, or the path of a CA bundle.
    """

    def __init__(self, *, verify: bool | str) -> None:
        self._verify = verify
        self._proxies = getproxies()

    def route_to(self, url: str) -> Route:
        """
        Return how requests reach the host of a URL; the first time, this reads files.

        :raises InvalidArgument: the environment's proxy is not supported, or a CA bundle cannot be read. The
            message names the variable or field, and contains no URL.
        """
        proxy = self._proxy_for(url)
        needs_tls = any(it is not None and it.lower().startswith("https:") for it in (url, proxy))
        return Route(proxy, self._tls if needs_tls else None)

    def _proxy_for(self, url: str) -> str | None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
        except ValueError:
            return None  # the client reports that the URL is invalid
        name = f"{parts.scheme}_proxy" if self._proxies.get(parts.scheme) else "all_proxy"
        proxy = self._proxies.get(name.removesuffix("_proxy"))
        if not proxy or proxy_bypass(f"{host}:{port}") or self._is_in_bypassed_network(host):
            return None
        return _checked(name, proxy if "://" in proxy else f"http://{proxy}")

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self._verify is False:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        for name, path in _ca_bundles(self._verify):
            try:
                if Path(path).is_dir():
                    context.load_verify_locations(capath=path)
                else:
                    context.load_verify_locations(cafile=path)
            except OSError:
                raise InvalidArgument(name, f"{path!r} is not a readable CA bundle") from None
        return context

    def _is_in_bypassed_network(self, host: str) -> bool:
        """Tell whether ``no_proxy`` has a network such as ``10.0.0.0/8`` that contains the host's address."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in _networks(self._proxies.get("no", "")))


def _ca_bundles(verify: Literal[True] | str) -> Sequence[tuple[str, str]]:
    """Return the paths of the trusted certificate authorities, each with the name of its setting."""
    if isinstance(verify, str):
        return [("verify", verify)]
    for name in CA_BUNDLES:
        if path := os.environ.get(name):
            return [(name, path)]
    of_openssl = [
        (name, path)
        for name in OPENSSL_CA_BUNDLES
        for path in os.environ.get(name, "").split(os.pathsep)
        if path
    ]
    return of_openssl or [("certifi", certifi.where())]


def _networks(no_proxy: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    networks = []
    for entry in no_proxy.split(","):
        try:
            networks.append(ipaddress.ip_network(entry.strip(), strict=False))
        except ValueError:
            continue  # a host name
    return networks


def _checked(name: str, proxy: str) -> str:
    try:
        parts = urlsplit(proxy)
        is_valid = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise InvalidArgument(name, "is not the URL of a proxy")
    if parts.scheme.lower() not in _PORTS:
        raise InvalidArgument(name, f"{parts.scheme} proxies are not supported; name an http or https proxy")
    return proxy
