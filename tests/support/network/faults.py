# SPDX-License-Identifier: Apache-2.0
"""Faults of the network: what goes wrong between a client and a correct server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, get_args

NetworkFaultKind = Literal[
    "close",
    "reset",
    "hang",
    "close_handshake",
    "alert_handshake",
    "drip_handshake",
    "plain_http",
    "alert",
    "html",
    "drip_head",
    "drip_body",
    "continue_forever",
    "close_in_head",
    "close_in_body",
    "close_after_head",
    "close_after_response",
]
CONNECT: Final = "connect"
"""Not an operation: the next connection, before any request is known."""
ANY_OPERATION: Final = "*"
"""Every request, also one that is no operation of Losant's API; not :data:`CONNECT`."""
HANDSHAKE_KINDS: Final = frozenset({"close_handshake", "alert_handshake", "drip_handshake", "plain_http"})
"""The kinds that happen to a connection only."""
CONNECTION_KINDS: Final = HANDSHAKE_KINDS | {"close", "reset", "hang"}
"""The kinds that can happen to a connection."""


@dataclass(frozen=True, slots=True)
class NetworkFault:
    """
    A fault that happens to one connection or to one request.

    Of a connection, before any request:

    - ``close``: it is closed as soon as it was accepted;
    - ``reset``: it is reset when the client has sent its first bytes;
    - ``hang``: the client's first bytes get no response;
    - ``close_handshake``: it is closed after the ClientHello;
    - ``alert_handshake``: the ClientHello gets the fatal alert handshake_failure (without TLS: closed);
    - ``drip_handshake``: the server's part of the handshake comes byte by byte (without TLS: no fault);
    - ``plain_http``: the ClientHello gets a response in plain HTTP.

    Of a request, in place of its response:

    - ``close``, ``reset``: the connection is closed or reset;
    - ``alert``: a fatal TLS alert, in the established session (without TLS: ``close``);
    - ``hang``: nothing, then the connection is closed;
    - ``html``: the error page of a gateway;
    - ``drip_head``, ``drip_body``: the head or the body comes byte by byte;
    - ``continue_forever``: ``100 Continue`` again and again;
    - ``close_in_head``, ``close_in_body``: the first half of the head, or the head and the first half of the
      body, then the connection is closed;
    - ``close_after_head``: the connection is closed when the head of the request has been read, but not its
      body. The client gets an end or a reset, depending on how much of the body was on its way;
    - ``close_after_response``: the complete response, then the connection is closed without a word.

    :param kind: What goes wrong.
    :param processed: Whether the request is forwarded and its response read before the fault. If so, that is
        the response that drips or breaks off; if not, it is a gateway's error page.
    :param status: The status of the gateway's error page.
    :param seconds: The time between two bytes or two interim responses, by default 0.05; of ``hang``: when it
        ends, by default when the client leaves.
    :param size: The number of bytes, or of interim responses, that are sent slowly; the rest follows at once.
        By default there is no end.
    :param close_notify: Whether TLS announces that the connection ends, where a fault closes it.
    """

    kind: NetworkFaultKind
    processed: bool = False
    status: int = 504
    seconds: float | None = None
    size: int | None = None
    close_notify: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(NetworkFaultKind):
            raise ValueError(f"unknown kind of fault: {self.kind}")
        if self.processed and self.kind in {"close_after_head", *HANDSHAKE_KINDS}:
            raise ValueError(f"{self.kind} happens before a request can be processed")

    @property
    def is_processed_first(self) -> bool:
        """Whether the request is forwarded and its response read before the fault."""
        return self.processed or self.kind == "close_after_response"

    @property
    def is_delivered(self) -> bool:
        """Whether the client gets the complete response of the backend in spite of the fault."""
        is_slow = self.kind in {"drip_head", "drip_body", "continue_forever"} and self.size is not None
        return self.kind == "close_after_response" or (self.processed and is_slow)

    @property
    def pace(self) -> float:
        """Seconds between two bytes or two interim responses."""
        return 0.05 if self.seconds is None else self.seconds


@dataclass(slots=True, eq=False)
class _Injected:
    """
    A fault that is still to happen, a number of times or until a time.

    :param after: The operation of a request that has to come first; None once it has come.
    """

    operation: str
    fault: NetworkFault
    times: int
    seconds: float | None
    after: str | None = None
    ends: float | None = None


class NetworkFaults:
    """
    The injected faults. Each connection or request gets the first fault that matches it.

    :param clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._injected: list[_Injected] = []
        self._lock = threading.Lock()

    def add(
        self, operation: str, fault: NetworkFault, times: int, seconds: float | None, after: str | None = None
    ) -> None:
        """
        Inject a fault.

        :param operation: Such as ``notebook.logs``, or :data:`ANY_OPERATION` or :data:`CONNECT`.
        :param times: How often it happens.
        :param seconds: How long it happens instead, from the first time on.
        :param after: The operation of a request that has to come first.
        :raises ValueError: if this kind of fault cannot happen to a connection, or to a request.
        """
        is_possible = (
            fault.kind in CONNECTION_KINDS if operation == CONNECT else fault.kind not in HANDSHAKE_KINDS
        )
        if not is_possible:
            raise ValueError(f"{fault.kind} cannot happen to {operation!r}")
        with self._lock:
            self._injected.append(_Injected(operation, fault, times, seconds, after))

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._injected.clear()

    def take(self, operation: str) -> NetworkFault | None:
        """Return the fault that happens to this operation now, if any."""
        with self._lock:
            now = self._clock()
            self._injected = [it for it in self._injected if it.ends is None or now < it.ends]
            possible = [it for it in self._injected if it.after is None]
            for injected in self._injected:
                if injected.after == operation:
                    injected.after = None
            for injected in possible:
                if injected.operation == operation or (
                    injected.operation == ANY_OPERATION and operation != CONNECT
                ):
                    self._use(injected, now)
                    return injected.fault
        return None

    def _use(self, injected: _Injected, now: float) -> None:
        if injected.seconds is None:
            injected.times -= 1
            if injected.times <= 0:
                self._injected.remove(injected)
        elif injected.ends is None:
            injected.ends = now + injected.seconds
