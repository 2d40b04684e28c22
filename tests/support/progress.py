# SPDX-License-Identifier: Apache-2.0
"""Say what happens and how long it has taken, in one live line for each step. Standard library only."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

WIDTH = 110
QUIET = 10.0


class Step:
    """
    Show one step of a longer story while a ``with`` block lasts.

    On a terminal the line is rewritten as time passes. Elsewhere there is a line at the beginning, one at
    the end, and now and then one with the latest note.

    :param title: What happens, in a few words.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._note = ""
        self._live = sys.stdout.isatty()
        self._started = self._said = time.monotonic()
        self._over = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._started = self._said = time.monotonic()
        if self._live:
            self._clock.start()
        else:
            print(f"  ..   {self.title}", flush=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._live:
            self._clock.join()
        stopped = kind is not None and issubclass(kind, SystemExit)
        self._write("ok" if kind is None else "--" if stopped else "FAIL", end="\n")

    def note(self, note: str) -> None:
        """Say where the step is now."""
        if note == self._note:
            return
        self._note = note
        if not self._live and time.monotonic() - self._said >= QUIET:
            self._said = time.monotonic()
            self._write("..", end="\n")

    def _tick(self) -> None:
        while not self._over.wait(0.2):
            self._write("..", end="")

    def _write(self, mark: str, *, end: str) -> None:
        seconds = time.monotonic() - self._started
        line = f"  {mark:4} {self.title} ({seconds:.0f} s)  {self._note}".rstrip()
        lead = "\r\033[K" if self._live else ""
        print(f"{lead}{line[:WIDTH] if self._live else line}", end=end, flush=True)
