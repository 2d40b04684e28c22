# SPDX-License-Identifier: Apache-2.0
"""Start and stop processes, and wait for conditions."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

T = TypeVar("T")


def free_port() -> int:
    """Return a loopback port at which no process listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(probe: Callable[[], T | None], *, what: str, timeout: float, every: float = 0.3) -> T:
    """
    Call a function until it returns something true, and return that.

    :param probe: The function.
    :param what: A description of the condition, for the error.
    :param timeout: Seconds after which waiting ends.
    :param every: Seconds between two calls.
    :raises TimeoutError: nothing true was returned in time.
    """
    deadline = time.monotonic() + timeout
    while True:
        if value := probe():
            return value
        if time.monotonic() >= deadline:
            raise TimeoutError(f"Waited {timeout:.0f} s in vain for {what}.")
        time.sleep(every)


class Process:
    """
    A program in a session of its own, with its output in a file.

    :param name: Its name in reports.
    :param command: The program and its arguments.
    :param env: Its whole environment.
    :param log: The file for its output; every start appends.
    """

    def __init__(self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._env = dict(env)
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id since the latest start."""
        if self._popen is None:
            raise RuntimeError(f"{self.name} has not been started.")
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        """Whether the program has been started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        """Start the program, again if it has ended."""
        if self.is_running:
            return
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def signal(self, number: int) -> None:
        """Send a signal to the program and to all processes that it has started."""
        for process in self._family():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def terminate(self) -> None:
        """Send SIGTERM to the program."""
        if self._popen is not None and self.is_running:
            self._popen.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the program and to all processes that it has started, and wait for their end."""
        family = self._family()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=5)
        if self._popen is not None:
            self._popen.wait(timeout=5)

    def stop(self, *, grace: float = 10.0) -> None:
        """
        Send SIGTERM to the program, and SIGKILL to what still runs of it and its children later.

        :param grace: Seconds between the two.
        """
        self.terminate()
        if self._popen is not None:
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(timeout=grace)
        self.kill()

    def tail(self, lines: int = 40) -> str:
        """Return the last lines that the program printed."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _family(self) -> list[psutil.Process]:
        if self._popen is None or self._popen.returncode is not None:
            return []
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self._popen.pid)
            return [parent, *parent.children(recursive=True)]
        return []


def is_running(pid: int) -> bool:
    """Return whether a process has not ended; a zombie, which its parent has not waited for, has."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def having(name: str, value: str) -> list[psutil.Process]:
    """
    Return every process that has this environment variable, except this one.

    This also finds children whose parent was killed: their environment is still the same. A process that
    changes its title overwrites its environment, unless it has ``SPT_NOENV``.

    :param name: Name of the variable.
    :param value: Its exact value.
    """
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(name) == value:
                found.append(process)
    return found


def kill_by_environment(name: str, value: str) -> int:
    """Send SIGKILL to what :func:`having` finds, wait for their end, and return their number."""
    found = having(name, value)
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(found, timeout=5)
    return len(found)
