# SPDX-License-Identifier: Apache-2.0
"""What the environment of the machine says about networks, which must not change the outcome of a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_losant.api.http.network import CA_BUNDLES, OPENSSL_CA_BUNDLES

if TYPE_CHECKING:
    import pytest

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def leave_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the proxies, certificate authorities and passwords of the machine from the environment."""
    for name in (*PROXIES, *map(str.upper, PROXIES), *CA_BUNDLES, *OPENSSL_CA_BUNDLES, "NETRC"):
        monkeypatch.delenv(name, raising=False)
