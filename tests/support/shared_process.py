# SPDX-License-Identifier: Apache-2.0
"""
A process that several workers of pytest-xdist use at the same time.

The worker that needs it first starts it, and it ends when no worker uses it any more. Both sides hold locks
on files in one folder. The kernel releases the locks of a process that dies, so that even workers that crash
leave nothing running.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Self

from tests.support.paths import ROOT
from tests.support.processes import wait_for

START_TIMEOUT = 300.0
"""Seconds within which the process has to announce that it is ready."""
STOP_TIMEOUT = 90.0
"""Seconds within which it has to end after the last user has left."""
CHECK_INTERVAL = 0.5
"""Seconds between two checks by the process for whether it has users."""

READY = "ready.json"
STARTING, USERS, RUNNING = "starting.lock", "users.lock", "running.lock"
"""Held by the one worker that starts or leaves, shared by all users, and held by the process itself."""

_started: list[subprocess.Popen[bytes]] = []
"""Python warns about an object that is collected while its process is running."""


@contextmanager
def use(folder: Path, module: str) -> Iterator[dict[str, Any]]:
    """
    Use the process while the block lasts: start it if it does not run, and yield what it announced.

    :param folder: The same for all users of a process.
    :param module: Run as ``python -m module folder``; it passes the folder to a :class:`Server`.
    :raises RuntimeError: the process ended early; the message holds the end of its output.
    """
    folder.mkdir(exist_ok=True)
    with (folder / USERS).open("a") as users:
        with locked(folder / STARTING):
            fcntl.flock(users, fcntl.LOCK_SH)  # waits while a process is ending
            if not _is_locked(folder / RUNNING):
                _start(folder, module)
        try:
            yield json.loads((folder / READY).read_text())
        finally:
            with locked(folder / STARTING):
                fcntl.flock(users, fcntl.LOCK_UN)
                if not _is_locked(folder / USERS):
                    wait_for(
                        lambda: not _is_locked(folder / RUNNING),
                        what=f"{module} to end, see {folder}",
                        timeout=STOP_TIMEOUT,
                    )


class Server:
    """
    The side of the process itself: it counts as running while a ``with`` block lasts.

    :param folder: The same for all users of a process.
    """

    def __init__(self, folder: Path) -> None:
        self._ready = folder / READY
        self._running = (folder / RUNNING).open("a")
        self._users = (folder / USERS).open("a")

    def __enter__(self) -> Self:
        fcntl.flock(self._running, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        self._ready.unlink(missing_ok=True)
        self._running.close()
        self._users.close()

    def serve(self, **details: Any) -> None:
        """
        Announce that the process is ready, and return when there are no users left.

        From then on new users wait until the process has ended, and start another one.

        :param details: What users have to know, as JSON.
        """
        written = self._ready.with_suffix(".part")
        written.write_text(json.dumps(details))
        written.rename(self._ready)
        while not _try_to_lock(self._users):
            time.sleep(CHECK_INTERVAL)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let no other process into the same block; wait for the one that is in it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def one_of(number: int, folder: Path) -> Iterator[None]:
    """Let so many processes into the same block at a time; wait until there is room."""
    folder.mkdir(exist_ok=True)
    with ExitStack() as files:
        slots = [files.enter_context((folder / f"{slot}.lock").open("a")) for slot in range(number)]
        while not any(map(_try_to_lock, slots)):
            time.sleep(CHECK_INTERVAL)
        yield


def _start(folder: Path, module: str) -> None:
    (folder / READY).unlink(missing_ok=True)
    log = folder / "output.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(folder)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _started.append(process)

    def is_ready() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{module} ended with {process.returncode}:\n{log.read_text()[-4000:]}")
        return (folder / READY).exists()

    wait_for(is_ready, what=f"{module} to be ready, see {log}", timeout=START_TIMEOUT)


def _is_locked(path: Path) -> bool:
    with path.open("a") as file:
        return not _try_to_lock(file)


def _try_to_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
