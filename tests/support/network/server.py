# SPDX-License-Identifier: Apache-2.0
"""A server on a port of 127.0.0.1, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Final, Self

from tests.support.network.connection import Connection

LOOPBACK: Final = "127.0.0.1"
_BACKLOG: Final = 1024


class Server(ABC):
    """
    Serve while the ``with`` block lasts; at its end every connection is closed.

    Leaving the block raises the first error in the server's own code, if there was one.
    """

    port: int

    def __init__(self) -> None:
        self.connections = 0
        """How many connections were accepted."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []

    @property
    def address(self) -> tuple[str, int]:
        return LOOPBACK, self.port

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._tasks)

    def __enter__(self) -> Self:
        self._listener = socket.create_server((LOOPBACK, 0), backlog=_BACKLOG)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        started = threading.Event()
        name = f"{type(self).__name__}-{self.port}"
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(started)), name=name, daemon=True
        )
        self._thread.start()
        if not started.wait(10):
            raise TimeoutError(f"{name} did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)
        self._listener.close()
        if self._errors and error is None:
            raise self._errors[0]

    @abstractmethod
    async def serve(self, connection: Connection) -> None:
        """Serve a connection that was just accepted; it is closed afterwards."""

    async def _run(self, started: threading.Event) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        # No task accepts: one that is cancelled at the wrong time would lose an accepted socket.
        self._loop.add_reader(self._listener, self._accept)
        started.set()
        await self._stopping.wait()
        self._loop.remove_reader(self._listener)
        serving = list(self._tasks)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # the client has left already
        self.connections += 1
        connection = Connection(accepted)
        task = self._loop.create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task that is cancelled before its first step would not do this itself.
        task.add_done_callback(lambda _: connection.close())

    async def _serve(self, connection: Connection) -> None:
        try:
            await self.serve(connection)
            with contextlib.suppress(OSError):
                await connection.announce_end()
        except (ConnectionResetError, BrokenPipeError):
            # A reset on one side of a proxy is a reset on the other side.
            connection.reset()
        except (OSError, asyncio.CancelledError):
            pass  # the peer left, the handshake failed, or the server stops
        except BaseException as error:  # noqa: BLE001 - raised where the with block ends
            self._errors.append(error)
