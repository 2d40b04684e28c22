# SPDX-License-Identifier: Apache-2.0
"""The faults of a submission, and those of the polls and searches that follow it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from airflow_provider_losant.emulator import Fault
from tests.support.network import NetworkFault

HTTP_TIMEOUT: Final = 1.0
"""Seconds; the ``timeout`` of the connection. A busy machine must not be a fault of its own too often."""
_LATE: Final = 2 * HTTP_TIMEOUT
"""Seconds after which the client has certainly given up."""


@dataclass(frozen=True, slots=True)
class PairFault:
    """
    A fault under a name.

    :param cause: What goes wrong, in Losant or on the way there; None if Losant's log lags.
    :param of_connection: It happens to the next connection instead of to a request.
    :param needs_tls: It happens in a TLS handshake.
    """

    name: str
    cause: Fault | NetworkFault | None
    of_connection: bool = False
    needs_tls: bool = False

    @property
    def base(self) -> str:
        """The name without that of the variant: a pair consists of two different ones."""
        return self.name.removesuffix(", processed")


def _both(name: str, cause: type[Fault | NetworkFault], kind: str, **more: object) -> list[PairFault]:
    """Return a fault that happens before a request is processed, and one that happens afterwards."""
    make: type = cause
    return [
        PairFault(name, make(kind, **more)),
        PairFault(f"{name}, processed", make(kind, processed=True, **more)),
    ]


_OF_CONNECTIONS: Final = (
    PairFault("connection closed", NetworkFault("close"), of_connection=True),
    PairFault("connection reset", NetworkFault("reset"), of_connection=True),
    PairFault("connection hangs", NetworkFault("hang"), of_connection=True),
    PairFault("close_handshake", NetworkFault("close_handshake"), of_connection=True, needs_tls=True),
    PairFault("alert_handshake", NetworkFault("alert_handshake"), of_connection=True, needs_tls=True),
    PairFault("drip_handshake", NetworkFault("drip_handshake"), of_connection=True, needs_tls=True),
    PairFault("plain_http", NetworkFault("plain_http"), of_connection=True, needs_tls=True),
)

# Left out, because they are final by design: redirects and pages with 4xx, by which a gateway rejects a
# submission for good; and error responses of Losant itself with 400, 401, 403 and 404.
EXECUTE_FAULTS: Final[tuple[PairFault, ...]] = (
    *_both("reset", NetworkFault, "reset"),
    *_both("close", NetworkFault, "close"),
    *_both("alert", NetworkFault, "alert"),
    *_both("hang", NetworkFault, "hang"),
    *_both("html 200", NetworkFault, "html", status=200),
    *_both("html 502", NetworkFault, "html", status=502),
    *_both("html 503", NetworkFault, "html", status=503),
    *_both("html 504", NetworkFault, "html", status=504),
    *_both("close_in_head", NetworkFault, "close_in_head"),
    *_both("close_in_body", NetworkFault, "close_in_body"),
    *_both("drip_head", NetworkFault, "drip_head"),
    *_both("drip_body", NetworkFault, "drip_body"),
    *_both("continue_forever", NetworkFault, "continue_forever"),
    PairFault("close_after_head", NetworkFault("close_after_head")),
    PairFault("close_after_response", NetworkFault("close_after_response")),
    *_OF_CONNECTIONS,
    *_both("server_error 500", Fault, "server_error", status=500),
    *_both("server_error 503", Fault, "server_error", status=503),
    PairFault("rate_limited", Fault("rate_limited")),
    PairFault("rate_limited 1 s", Fault("rate_limited", retry_after=1)),
    # The next four always change the response to a request that was processed.
    PairFault("truncated", Fault("truncated")),
    PairFault("empty", Fault("empty")),
    PairFault("wrong_shape", Fault("wrong_shape")),
    PairFault("slow_body", Fault("slow_body", seconds=_LATE)),
    PairFault("slow", Fault("slow", seconds=HTTP_TIMEOUT / 3)),
    *_both("too slow", Fault, "slow", seconds=_LATE),
)

# Left out, because they end a wait by design: error responses of Losant itself with 403 and 404, by which it
# denies the connection's own token, or says that there is no such notebook. Those of a gateway are in.
LOGS_FAULTS: Final[tuple[PairFault, ...]] = (
    PairFault("reset", NetworkFault("reset")),
    PairFault("close", NetworkFault("close")),
    PairFault("alert", NetworkFault("alert")),
    PairFault("hang", NetworkFault("hang")),
    PairFault("html 200", NetworkFault("html", status=200)),
    PairFault("html 403", NetworkFault("html", status=403)),
    PairFault("html 404", NetworkFault("html", status=404)),
    PairFault("html 502", NetworkFault("html", status=502)),
    PairFault("html 504", NetworkFault("html", status=504)),
    PairFault("close_in_head", NetworkFault("close_in_head", processed=True)),
    PairFault("close_in_body", NetworkFault("close_in_body", processed=True)),
    PairFault("drip_head", NetworkFault("drip_head", processed=True)),
    PairFault("drip_body", NetworkFault("drip_body", processed=True)),
    PairFault("continue_forever", NetworkFault("continue_forever")),
    PairFault("close_after_response", NetworkFault("close_after_response")),
    *_OF_CONNECTIONS,
    PairFault("server_error 500", Fault("server_error", status=500)),
    PairFault("server_error 503", Fault("server_error", status=503)),
    PairFault("rate_limited", Fault("rate_limited")),
    PairFault("rate_limited 1 s", Fault("rate_limited", retry_after=1)),
    PairFault("unauthorized", Fault("unauthorized")),
    PairFault("truncated", Fault("truncated")),
    PairFault("empty", Fault("empty")),
    PairFault("wrong_shape", Fault("wrong_shape")),
    PairFault("missing_fields", Fault("missing_fields")),
    PairFault("log lags", None),
)
