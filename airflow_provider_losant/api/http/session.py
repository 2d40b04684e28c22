# SPDX-License-Identifier: Apache-2.0
"""Sessions of ``requests`` that send over our connections, each to one host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter

from airflow_provider_losant.api.http.connection import POOLS

if TYPE_CHECKING:
    import ssl

    from airflow_provider_losant.api.http.network import Route
    from airflow_provider_losant.api.settings import Settings


class _Adapter(HTTPAdapter):
    """
    Sends requests over our connections.

    :param tls: The TLS context of the session; None if none of its requests needs one.
    """

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._pool: Any = None
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(
            proxy, ssl_context=self._tls, proxy_ssl_context=self._tls, **kwargs
        )
        manager.pool_classes_by_scheme = POOLS
        return manager

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool of the session's one host, without the choice that takes a tenth of a call."""
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*args, **kwargs)
        return self._pool

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Do not add the certificate authorities of requests: the context has all that are trusted."""


class Session(requests.Session):
    """
    A session for one host.

    It does not follow redirects, because that of requests reads their bodies without a size limit. It takes
    nothing from the environment: a ``.netrc`` entry would replace the token.

    :param route: How requests reach the host.
    """

    def __init__(self, settings: Settings, route: Route) -> None:
        super().__init__()
        self.trust_env = False
        self.verify = settings.verify is not False
        self.headers["User-Agent"] = settings.user_agent
        if route.proxy is not None:
            self.proxies = {"http": route.proxy, "https": route.proxy}
        adapter = _Adapter(route.tls)
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None
