# SPDX-License-Identifier: Apache-2.0
"""What the tasks of many threads need: a Losant for each, behind balancers and one proxy."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from airflow_provider_losant.emulator import Emulator, Fault
from tests.provider.fault_pairs.faults import HTTP_TIMEOUT
from tests.support.network import CertificateAuthority, LoadBalancer, NetworkFault, NetworkKind, Proxy
from tests.support.network.network import PASSWORD, USER, environment
from tests.support.network.server import LOOPBACK

if TYPE_CHECKING:
    from types import TracebackType

    from tests.provider.fault_pairs.pairs import Pair

EXECUTE: Final = "notebook.execute"
LOGS: Final = "notebook.logs"
MANY: Final = 1000
"""More requests than are made while a fault lasts."""


class Surroundings:
    """
    One proxy and one certificate authority for all threads, while the ``with`` block lasts.

    The environment of a process names one proxy and one CA bundle. So all kinds of networks exist at the same
    time: the hosts behind the proxy have names, and the direct way is to an IP address, for which no proxy is
    used.

    :param size: The number of threads.
    """

    def __init__(self, size: int) -> None:
        self._names = [f"losant-{number}.test" for number in range(size)]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="losant-pairs-"))
            authority = CertificateAuthority(Path(folder))
            self._proxy = stack.enter_context(Proxy(user=USER, password=PASSWORD))
            self._bundle = authority.bundle
            self.hosts = [stack.enter_context(Host(name, authority, self._proxy)) for name in self._names]
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of this process; those that must not be set are empty."""
        return environment(self._proxy.url, self._bundle, no_proxy=LOOPBACK)


class Host:
    """A Losant for one thread, behind a balancer with TLS and one without, each also behind the proxy."""

    def __init__(self, name: str, authority: CertificateAuthority, proxy: Proxy) -> None:
        self._name = name
        self._authority = authority
        self._proxy = proxy
        self.losant = Emulator()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.losant)
            backend = (LOOPBACK, int(self.losant.url.rpartition(":")[2]))
            tls = self._authority.server_context(f"tls.{self._name}")
            self._plain = stack.enter_context(LoadBalancer(backend))
            self._tls = stack.enter_context(LoadBalancer(backend, tls))
            self._proxy.names[self._name] = self._plain.address
            self._proxy.names[f"tls.{self._name}"] = self._tls.address
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def balancer(self, kind: NetworkKind) -> LoadBalancer:
        """Return the balancer that the requests of a pair come through."""
        return self._tls if kind.startswith("tls") else self._plain

    def connection(self, pair: Pair) -> str:
        """Return the Airflow connection of a pair's task, as JSON."""
        urls: dict[NetworkKind, str] = {
            "direct": self._plain.url,
            "proxy": f"http://{self._name}",
            "tls through proxy": f"https://tls.{self._name}",
        }
        extra = {
            "application_id": self.losant.application_id,
            "allow_http": True,
            "timeout": HTTP_TIMEOUT,
            "max_retries": pair.max_retries,
        }
        return json.dumps(
            {"conn_type": "losant", "host": urls[pair.kind], "password": self.losant.token, "extra": extra}
        )

    @contextmanager
    def faults(self, pair: Pair, notebook: str) -> Iterator[None]:
        """Let both faults of a pair happen in this block."""
        balancer, is_over = self.balancer(pair.kind), threading.Event()
        match pair.execute.cause:
            case NetworkFault() as fault:
                balancer.inject("connect" if pair.execute.of_connection else EXECUTE, fault, pair.times)
            case Fault() as fault:
                self.losant.inject(EXECUTE, fault, pair.times)
            case None:
                raise ValueError("a submission cannot lag")
        ending = threading.Thread(target=self._end_faults, args=(notebook, pair.seconds, is_over))
        match pair.logs.cause:
            case NetworkFault() as fault if pair.logs.of_connection:
                # A poll over the connection that is there already has to fail before there is another one.
                balancer.inject(LOGS, NetworkFault("close"))
                balancer.inject("connect", fault, seconds=pair.seconds, after=LOGS)
            case NetworkFault() as fault:
                balancer.inject(LOGS, fault, seconds=pair.seconds)
            case Fault() as fault:
                self.losant.inject(LOGS, fault, times=MANY if pair.seconds else 1)
                ending.start()
            case None:
                self.losant.switches.listing_lag = pair.seconds
        try:
            yield
        finally:
            is_over.set()
            if ending.ident is not None:
                ending.join()
            balancer.clear_faults()
            self.losant.clear_faults()
            self.losant.switches.listing_lag = 0.0

    def _end_faults(self, notebook: str, seconds: float, is_over: threading.Event) -> None:
        """End the faults of the log some seconds after the first request for it."""
        while not is_over.wait(0.02):
            if any(it.operation == LOGS and notebook in it.path for it in self.losant.requests):
                is_over.wait(seconds)
                if seconds:
                    self.losant.clear_faults()
                return
