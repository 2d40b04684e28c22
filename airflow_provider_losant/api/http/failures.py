# SPDX-License-Identifier: Apache-2.0
"""
Describe why a request got no response: the same for both HTTP clients.

Whether the request may have taken effect is not guessed from exception classes: the clients know whether they
had begun to send its body. Messages consist of known phrases, because those of the libraries may contain the
URL of the proxy with its password, or a signed URL.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Sequence
from typing import Any

from airflow_provider_losant.api.errors import TlsError, TransportError
from airflow_provider_losant.api.fields import one_line

REFRESH_FAILED = "The connection could not be read again after Losant had refused the token (%s)"
"""Only the type of the exception, because that of a secrets backend may contain anything."""
_NO_TLS_RECORD = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}
"""OpenSSL's reasons when what the server sent is no TLS record."""
_PLAIN_HTTP = "the server speaks plain HTTP; write http:// in host"
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d{3})")
"""The text of ``http.client``, which has no exception of its own for this."""
_MOST_CAUSES = 20


def transport_error(where: str, error: BaseException, *, is_begun: bool) -> TransportError:
    """
    Convert an exception of an HTTP library to an error of ours.

    :param where: The operation and the host.
    :param is_begun: Whether the client had begun to send the body of the request, or all of a request without
        one.
    """
    causes = list(_causes(error))
    if not is_begun and any(isinstance(it, ssl.SSLCertVerificationError) for it in causes):
        problem = _first(causes, "verify_message") or "no reason given"
        return TlsError(f"{where}: the server's certificate was not accepted ({problem})")
    if not is_begun:
        return TransportError(f"{where}: no connection ({describe(error)})", was_sent=False)
    if any(isinstance(it, TimeoutError) for it in causes):
        return TransportError(f"{where}: no response in time")
    return TransportError(f"{where}: the connection broke ({describe(error)})")


def describe(error: BaseException) -> str:
    """Return a short reason that contains no URL and no credentials."""
    causes = list(_causes(error))
    if (status := next(filter(None, map(_proxy_status, causes)), None)) is not None:
        return f"the proxy returned {status}"
    of_tls = [it for it in causes if isinstance(it, ssl.SSLError)]
    if of_tls:
        reason = _first(of_tls, "reason") or type(of_tls[-1]).__name__
        return _PLAIN_HTTP if reason in _NO_TLS_RECORD else f"TLS: {reason}"
    if any(isinstance(it, TimeoutError) for it in causes):
        return "timed out"
    of_system = [it for it in causes if isinstance(it, OSError) and it.errno is not None]
    # The innermost, because the outer ones blame the proxy for what happened behind it.
    return _first(of_system, "strerror") or type(causes[-1]).__name__


def _first(causes: Sequence[BaseException], attribute: str) -> str:
    """Return the first text in an attribute of the exceptions, which those of the libraries may lack."""
    found = (getattr(it, attribute, None) for it in causes)
    return next((one_line(it) for it in found if isinstance(it, str) and it), "")


def _proxy_status(error: BaseException) -> int | None:
    """Return the status with which a proxy refused a tunnel."""
    if type(error).__name__ == "ClientHttpProxyError":  # aiohttp's
        return int(getattr(error, "status", 0))
    found = _TUNNEL_REFUSED.match(str(error)) if type(error) is OSError else None
    return int(found[1]) if found else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all that led to it, in the places where the libraries keep them."""
    waiting: list[Any] = [error]
    seen: list[BaseException] = []
    while waiting and len(seen) < _MOST_CAUSES:
        it = waiting.pop(0)
        if not isinstance(it, BaseException) or any(it is other for other in seen):
            continue
        seen.append(it)
        yield it
        nested = (getattr(it, name, None) for name in ("reason", "os_error", "certificate_error"))
        waiting += [*nested, *it.args, it.__cause__]
