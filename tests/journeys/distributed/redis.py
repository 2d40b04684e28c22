# SPDX-License-Identifier: Apache-2.0
"""A Redis on loopback, from the system's package, that loses no data when it is killed."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.support.processes import Process, free_port, wait_for


def program() -> str | None:
    """Return the path of Redis; None if it is not installed."""
    return shutil.which("redis-server")


class LocalRedis(Process):
    """
    Run a message broker while a ``with`` block lasts; it can be killed and started again.

    :param folder: For the data that a restart has to find.
    """

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        settings = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "dir": str(folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
        }
        command = [program() or "redis-server"]
        command += [part for name, value in settings.items() for part in (f"--{name}", value)]
        super().__init__("redis", command, env=os.environ, log=folder / "redis.log")

    @property
    def url(self) -> str:
        """The URL of its first database."""
        return f"redis://127.0.0.1:{self._port}/0"

    def __enter__(self) -> Self:
        self.start()
        wait_for(self._takes_connections, what="Redis to take connections", timeout=20)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _takes_connections(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
            return True
        return False
