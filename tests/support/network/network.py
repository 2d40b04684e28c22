# SPDX-License-Identifier: Apache-2.0
"""A load balancer, and where wanted a proxy and TLS, between a client and the emulator."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from tests.support.network.authority import CertificateAuthority
from tests.support.network.balancer import LoadBalancer
from tests.support.network.proxy import Proxy
from tests.support.network.server import LOOPBACK

NetworkKind = Literal["direct", "tls", "proxy", "tls through proxy"]
HOST: Final = "losant.test"
"""The host name behind a proxy. No DNS knows it, so that only the proxy can lead there."""
USER: Final = "airflow"
PASSWORD: Final = "p@ss/word:1"
"""With characters that a URL must quote."""


class Network:
    """
    Stand between a client and the emulator while the ``with`` block lasts.

    - ``direct``: client, load balancer, emulator;
    - ``tls``: the load balancer serves HTTPS;
    - ``proxy``: the client uses a proxy with user and password, which alone knows the host name;
    - ``tls through proxy``: the same with HTTPS, by a CONNECT tunnel.

    Files are not behind it: the emulator serves them on another port.

    :param backend: The URL of the emulator.
    """

    balancer: LoadBalancer
    proxy: Proxy | None
    base_url: str
    """The URL of the API as the client shall use it."""
    bundle: Path
    """The CA bundle that a client needs for HTTPS."""

    def __init__(self, backend: str, kind: NetworkKind = "direct") -> None:
        url = urlsplit(backend)
        self._backend = (url.hostname or LOOPBACK, url.port or 80)
        self.kind = kind

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="losant-network-"))
            authority = CertificateAuthority(Path(folder))
            self.bundle = authority.bundle
            tls = authority.server_context(HOST, LOOPBACK) if self.kind.startswith("tls") else None
            self.balancer = stack.enter_context(LoadBalancer(self._backend, tls))
            self.base_url, self.proxy = self.balancer.url, None
            if self.kind.endswith("proxy"):
                names = {HOST: self.balancer.address}
                self.proxy = stack.enter_context(Proxy(names=names, user=USER, password=PASSWORD))
                self.base_url = f"{'http' if tls is None else 'https'}://{HOST}"
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    @property
    def environment(self) -> dict[str, str]:
        """
        The environment variables of a client in this network.

        A variable that must not be set is empty, so that those of the machine do not count.
        """
        return environment("" if self.proxy is None else self.proxy.url, self.bundle)


def environment(proxy: str, bundle: Path, no_proxy: str = "") -> dict[str, str]:
    """Return the environment variables for a proxy and a CA bundle; those that must not be set are empty."""
    values = {"http_proxy": proxy, "https_proxy": proxy, "all_proxy": "", "no_proxy": no_proxy}
    upper = {name.upper(): value for name, value in values.items()}
    return {**values, **upper, "REQUESTS_CA_BUNDLE": str(bundle)}
