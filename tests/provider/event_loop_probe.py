# SPDX-License-Identifier: Apache-2.0
"""Slow servers for Airflow's requests in a trigger, which detect whether the event loop is blocked."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.secrets import BaseSecretsBackend

if TYPE_CHECKING:
    import pytest

T = TypeVar("T")


class LoopProbe:
    """Shows to another thread whether an event loop is running or blocked."""

    def __init__(self) -> None:
        self._has_run = threading.Event()
        self.checks = 0
        self.stops = 0

    def check(self) -> None:
        """Wait until the loop has run a task, or for 2 s, after which it counts as blocked."""
        self._has_run.clear()
        self.checks += 1
        self.stops += not self._has_run.wait(2)

    async def during(self, work: Awaitable[T]) -> T:
        """Await something while the loop reports to the other thread that it is running."""
        reporting = asyncio.create_task(self._report())
        try:
            return await work
        finally:
            reporting.cancel()

    async def _report(self) -> None:
        while True:
            self._has_run.set()
            await asyncio.sleep(0.001)


class SlowSecrets(BaseSecretsBackend):
    """A secrets backend for Airflow's ``[secrets] backend`` that has every connection id."""

    probe = LoopProbe()
    connection: Mapping[str, Any] = {}

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str:
        self.probe.check()
        return json.dumps(self.connection)


@contextmanager
def supervisor(probe: LoopProbe, responses: Mapping[str, dict[str, Any]]) -> Iterator[socket.socket]:
    """
    Replace the supervisor process of an Airflow 3 triggerer, at the other end of a real socket.

    :param responses: The responses by the type of the request.
    """
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    thread = threading.Thread(target=_respond, args=(ours, probe, responses))
    thread.start()
    try:
        yield theirs
    finally:
        theirs.close()
        thread.join()
        ours.close()


def _respond(wire: socket.socket, probe: LoopProbe, responses: Mapping[str, dict[str, Any]]) -> None:
    from airflow.sdk.execution_time.comms import _ResponseFrame
    from msgspec import msgpack

    with wire.makefile("rb") as incoming:
        while length := incoming.read(4):
            number, body, *_ = msgpack.decode(incoming.read(int.from_bytes(length, "big")))
            probe.check()
            wire.sendall(_ResponseFrame(id=number, body=responses.get(body["type"])).as_bytes())


@asynccontextmanager
async def as_triggerer(wire: socket.socket, patch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Connect to the supervisor as Airflow's own triggerer does."""
    from airflow.jobs.triggerer_job_runner import TriggerCommsDecoder
    from airflow.sdk.execution_time import task_runner

    reader, writer = await asyncio.open_connection(sock=wire)
    decoder = TriggerCommsDecoder(async_writer=writer, async_reader=reader, socket=None)  # type: ignore[arg-type]  # the streams are enough
    if hasattr(decoder, "start_reader"):  # since Airflow 3.2
        await decoder.start_reader()
    patch.setattr(task_runner, "SUPERVISOR_COMMS", decoder, raising=False)
    try:
        yield
    finally:
        if reader_task := getattr(decoder, "_reader_task", None):
            reader_task.cancel()
        writer.close()
        await writer.wait_closed()
