# SPDX-License-Identifier: Apache-2.0
"""A throw-away certificate authority, so that tests use real TLS that only they trust."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class CertificateAuthority:
    """
    Issue certificates that are trusted by clients with its CA bundle, and by no other.

    :param folder: An existing folder for the bundle.
    """

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.bundle = folder / "ca-bundle.pem"
        """The file with the certificate of this CA, for ``verify`` or ``REQUESTS_CA_BUNDLE``."""
        self._authority.cert_pem.write_to_path(str(self.bundle))

    def server_context(self, *hosts: str) -> ssl.SSLContext:
        """Return the TLS context of a server with these host names and IP addresses."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*hosts).configure_cert(context)
        return context
